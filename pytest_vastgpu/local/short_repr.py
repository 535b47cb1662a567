"""Shortens values for messages."""

from __future__ import annotations

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


def short_repr(value: object) -> str:
    """Shorten a value for a message: with YAML aliases a small file can hold a value of any size."""
    return _SHORT.repr(value)
