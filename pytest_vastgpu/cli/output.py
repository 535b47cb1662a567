"""Prints the commands' output: each text is one line, and safe to show."""

from __future__ import annotations

import sys

from pytest_vastgpu.core.text import sanitize


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{sanitize.line(text)}\n")


def tell(text: str) -> None:
    """Print a problem or a note on standard error."""
    sys.stderr.write(f"vastgpu: {sanitize.line(text)}\n")
