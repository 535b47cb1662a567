"""Rent a GPU host for the tests that need one. Public names are loaded when they are first used."""

from __future__ import annotations
