"""Lays out text for people: tables, and texts with the middle cut out. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from collections.abc import Sequence


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table: its columns with two spaces between, each as wide as its widest cell."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def fitted(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int, expendable: Sequence[str] = ()
) -> list[str]:
    """The lines of a table that are no longer than that many characters, as far as they can be.

    First columns are left out, until it fits. Where that is not enough, each row becomes a block with a line for each
    column, none left out.

    :param width: In characters; 0 or less: whatever it takes.
    :param expendable: The headings of columns that may be left out, the least important first.
    """
    for left_out in range(len(expendable) + 1):
        kept = [at for at, heading in enumerate(header) if heading not in expendable[:left_out]]
        lines = columns([header[at] for at in kept], [[row[at] for at in kept] for row in rows])
        if width <= 0 or max(map(len, lines)) <= width:
            return lines
    names = max(map(len, header))
    blocks = [
        [f"{heading:{names}}  {cell}".rstrip() for heading, cell in zip(header, row, strict=True)] for row in rows
    ]
    return [line for number, block in enumerate(blocks) for line in (*([""] if number else []), *block)]


def bounded(text: str, limit: int) -> str:
    """A text of several lines, of about that many characters; a longer one says how much of its middle is missing."""
    return cut_middle(text, limit, left_out(len(text) - 2 * (limit // 2), "characters"))


def cut_middle(text: str, limit: int, mark: str = " … ") -> str:
    """A text of about that many characters. A longer one loses its middle, because causes are at the start of a text,
    and numbers and consequences at its end.

    :param mark: Replaces the middle; see :func:`left_out`.
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}{mark}{text[len(text) - half :]}"


def left_out(count: int, unit: str) -> str:
    """The line that replaces a missing part of a text of several lines; empty if nothing is missing.

    :param unit: The unit of ``count``: ``characters`` or ``bytes``.
    """
    return f"\n[... {count} {unit} left out ...]\n" if count > 0 else ""


def columns_of(text: str) -> int:
    """How many columns of a terminal a line takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def cut_end(text: str, columns: int, mark: str = "…") -> str:
    """A line that takes at most that many columns; a wider one loses its end."""
    if columns_of(text) <= columns:
        return text
    room, kept = columns - columns_of(mark), 0
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        kept += 1
    return text[:kept] + mark if columns > 0 else ""


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
