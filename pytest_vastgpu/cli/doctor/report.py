"""Writes findings for people and for programs. Pure."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import Level
from pytest_vastgpu.core.text import sanitize

VERSION = 1
"""Of the form of the JSON document. Fields may be added without another one."""
WIDTH = 80
"""Characters of a line, where the terminal has as many. Commands are not broken, so that they can be copied."""
_LEAST = 40
_COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.PROBLEM: "31;1"}


def exit_code(findings: Sequence[Finding]) -> int:
    """0 where there is no problem, else 1."""
    return int(any(each.level is Level.PROBLEM for each in findings))


def as_text(findings: Sequence[Finding], *, width: int = WIDTH, colour: bool = False) -> str:
    """The report for people: what was found, what to do, and the command that does it.

    :param width: Of the terminal, in characters.
    """
    levels, names = max(map(len, Level)), max(len(each.name) for each in findings)
    margin = " " * (levels + names + 4)
    wide = max(_LEAST, min(width, WIDTH))
    lines = []
    for each in findings:
        level = each.level.ljust(levels)
        shown = f"\x1b[{_COLOURS[each.level]}m{level}\x1b[0m" if colour else level
        first, *rest = _wrapped(each.text, margin, wide)
        lines += [f"{shown}  {each.name.ljust(names)}  {first}", *(margin + line for line in rest)]
        if each.remedy:
            lines += [margin + line for line in _wrapped(f"-> {each.remedy}", margin, wide, "   ")]
        if each.command:
            lines.append(f"{margin}     {sanitize.line(each.command)}")
    return "".join(f"{line}\n" for line in [*lines, summary(findings)])


def _wrapped(text: str, margin: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        sanitize.line(text),
        width - len(margin),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def summary(findings: Sequence[Finding]) -> str:
    """How many findings there are of each level."""
    counts = Counter(each.level for each in findings)

    def counted(level: Level) -> str:
        return f"{counts[level]} {level}{'s' if counts[level] != 1 else ''}"

    return f"{counted(Level.PROBLEM)}, {counted(Level.WARNING)}, {counts[Level.OK]} ok"


def as_json(findings: Sequence[Finding]) -> str:
    """The report for programs: one JSON document."""
    rows: list[Mapping[str, str]] = [
        {
            "name": each.name,
            "level": each.level.value,
            "text": each.text,
            "remedy": each.remedy,
            "command": each.command,
        }
        for each in findings
    ]
    return json.dumps(sanitize.clean({"version": VERSION, "findings": rows}), indent=2) + "\n"
