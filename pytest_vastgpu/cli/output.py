"""Prints the commands' output: each text is one line, and safe to show."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.layout import fitted


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{sanitize.line(text)}\n")


def tell(text: str) -> None:
    """Print a problem or a note on standard error."""
    sys.stderr.write(f"vastgpu: {sanitize.line(text)}\n")


def say_table(header: Sequence[str], rows: Sequence[Sequence[str]], expendable: Sequence[str] = ()) -> None:
    """Print a table that fits on the terminal, or into ``COLUMNS``; as wide as it is, where the output is no terminal.

    :param expendable: The headings of columns that may be left out, the least important first.
    """
    safe = [[sanitize.line(cell, sanitize.CELL_CHARS) for cell in row] for row in rows]
    sys.stdout.writelines(f"{line}\n" for line in fitted(header, safe, columns(), expendable))


def columns() -> int:
    """How wide the output may be: as the terminal, or as ``COLUMNS`` says; 0: as wide as it is."""
    bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return shutil.get_terminal_size((0, 0)).columns if bounded else 0


def say_json(value: object) -> None:
    """Print a value as a JSON document."""
    sys.stdout.write(json.dumps(sanitize.clean(value), indent=1) + "\n")
