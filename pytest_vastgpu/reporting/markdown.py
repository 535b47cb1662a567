"""Writes GitHub's Markdown with text of others in it. Pure.

Such text is written as code, and nowhere else: there it is no link, no HTML, no mention of a person or an issue, and no
end of a table's cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.layout import cut_middle

CELL_CHARS = 400
"""Most characters of such a text."""


def code(text: str, limit: int = CELL_CHARS) -> str:
    """A text as code in a line, also within a table. A long one loses its middle; an empty one is a dash.

    :param limit: In characters.
    """
    line = " ".join(cut_middle(sanitize.line(text.strip()), limit).split())
    if not line:
        return "-"
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in (line[0], line[-1]) else ""
    return f"{fence}{space}{line}{space}{fence}".replace("|", "\\|")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table.

    :param rows: Of cells that are Markdown already.
    """
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
