"""The form in which every benchmark tells what it measured: rows of one table, and the same as JSON.

A benchmark is a module here with a function ``rows(quick)``, which measures and returns :class:`Row` objects; ``quick``
asks for its smallest form, which shows that it works and nothing else. ``python -m tests.benchmarks.NAME`` runs one of
them, ``python -m tests.benchmarks`` all. Goals are compared and told, never asserted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

HEAD = ("what", "ours", "others", "ratio", "goal")


class Skipped(Exception):
    """This machine lacks what the benchmark needs; the text says what."""


class Failed(Exception):
    """What was measured means nothing; the text says why."""


@dataclass(frozen=True)
class Row:
    """One line of the table. Less is better."""

    what: str
    ours: float
    unit: str = "s"
    """``s`` is shown with a fitting prefix; anything else as it is; empty for plain numbers."""
    others: float | None = None
    """The yardstick, measured in the same run, in the same unit."""
    beside: str = ""
    """What the yardstick is."""
    most: float | None = None
    """Goal: most that ours may be."""
    most_ratio: float | None = None
    """Goal: most that ours may be beside the others'."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """More numbers, for the JSON only."""

    @property
    def ratio(self) -> float | None:
        """Ours beside the others'; None where there is nothing to compare with."""
        return self.ours / self.others if self.others else None

    @property
    def met(self) -> bool | None:
        """Whether every goal is met; None without one."""
        goals = [
            value is not None and value <= most
            for value, most in ((self.ours, self.most), (self.ratio, self.most_ratio))
            if most is not None
        ]
        return all(goals) if goals else None

    def cells(self) -> tuple[str, ...]:
        """As it is shown."""
        others = "" if self.others is None else f"{shown(self.others, self.unit)} {self.beside}".rstrip()
        wanted = [f"≤ {shown(self.most, self.unit)}"] if self.most is not None else []
        wanted += [f"ratio ≤ {shown(self.most_ratio)}"] if self.most_ratio is not None else []
        goal = f"{', '.join(wanted)}: {'met' if self.met else 'missed'}" if wanted else ""
        ratio = "" if self.ratio is None else f"{self.ratio:.{3 if self.ratio < 0.95 else 4}g}"  # near 1, 1 % counts
        return self.what, shown(self.ours, self.unit), others, ratio, goal


def shown(value: float, unit: str = "") -> str:
    """A number with three significant digits, whole ones in full; seconds also as ms or µs."""
    if unit == "s" and 0 < abs(value) < 1:
        value, unit = (value * 1e6, "µs") if abs(value) < 1e-3 else (value * 1e3, "ms")
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that so large a share of them does not exceed: the nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(rows: Iterable[Row]) -> str:
    """Rows as a table of Markdown that reads well as plain text, too."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in padded)


def as_json(rows: Iterable[Row]) -> list[dict[str, object]]:
    """Rows with what follows from them."""
    return [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in rows]


def from_json(rows: Iterable[Mapping[str, object]]) -> list[Row]:
    """What :func:`as_json` made of them, back again."""
    names = Row.__dataclass_fields__
    return [Row(**{name: value for name, value in row.items() if name in names}) for row in rows]  # type: ignore[arg-type]  # they were a Row


def machine() -> dict[str, object]:
    """Where and when it is measured, and what else goes on there (``load``)."""
    found = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cores": len(found) or None,
        "cpu": found[0] if found else platform.machine(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 2),
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def main(about: str | None, measure: Callable[[bool], list[Row]]) -> int:
    """The command line of one benchmark.

    :param about: The module's docstring.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest form: shows that it works, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    arguments = parser.parse_args()
    try:
        rows, skipped = measure(arguments.quick), ""
        if arguments.quick:  # at that size no goal means anything
            rows = [replace(row, most=None, most_ratio=None) for row in rows]
        sys.stdout.write(table(rows))
    except Skipped as reason:
        rows, skipped = [], str(reason)
        sys.stdout.write(f"skipped: {skipped}\n")
    except Failed as why:
        sys.stderr.write(f"failed: {why}\n")
        return 1
    if arguments.json:
        text = json.dumps({"skipped": skipped, "rows": as_json(rows)}, indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 0
