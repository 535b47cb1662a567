"""Finds the newest line of a growing log that tells a person how far a server is. Pure."""

from __future__ import annotations

import re

from pytest_vastgpu.diagnosis.lines import read_line
from pytest_vastgpu.diagnosis.stages import progress_of
from pytest_vastgpu.model import Progress

TAIL_CHARS = 16_000
"""How much of the end of a log is looked at."""
_SAYS_SOMETHING = re.compile(r"[^\W\d_]{3}")
"""A word; a line of dots, numbers or a frame says nothing."""


def newest(log: str) -> Progress | str:
    """The stage that the newest meaningful line names, else the line itself without its logger's prefix.

    A line that has no end yet counts only where there is no other: it may be cut short.

    :returns: Empty where no line says anything.
    """
    *whole, rest = re.split(r"[\r\n]+", log[-TAIL_CHARS:])
    if len(log) > TAIL_CHARS:
        whole = whole[1:]  # it has lost its beginning
    for raw in (*reversed(whole), rest):
        line = read_line(raw)
        if line.dull or not _SAYS_SOMETHING.search(line.text):
            continue
        return progress_of(line.text) or line.text.strip()
    return ""
