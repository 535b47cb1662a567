"""Teaches pytest-vastgpu a search server."""

from __future__ import annotations

from vastgpu_adapter_search.builder import search

__all__ = ["search"]
