"""Formats a log line as evidence for people."""

from __future__ import annotations

from pytest_vastgpu.core.text import sanitize

MAX_CHARS = 500


def shown(line: str) -> str:
    """A line as evidence: bounded, safe to show, and without secrets."""
    return sanitize.line(line.strip(), MAX_CHARS)
