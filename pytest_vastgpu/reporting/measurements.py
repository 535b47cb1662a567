"""Builds what the terminal says of measurements and comparisons at the end of a run, and their JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.layout import fitted
from pytest_vastgpu.measuring.comparison import Finding
from pytest_vastgpu.measuring.comparison import Judged
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import to_json
from pytest_vastgpu.reporting.measured_words import UNKNOWN
from pytest_vastgpu.reporting.measured_words import effort
from pytest_vastgpu.reporting.measured_words import in_words
from pytest_vastgpu.reporting.measured_words import load_line
from pytest_vastgpu.reporting.measured_words import metric_name
from pytest_vastgpu.reporting.measured_words import number
from pytest_vastgpu.reporting.measured_words import percent
from pytest_vastgpu.reporting.measured_words import place
from pytest_vastgpu.reporting.measured_words import slowdown
from pytest_vastgpu.reporting.sentences import count

VERSION = 1
NAME = "measurements.json"
PAGE = "measurements.html"

TELLING = ("throughput", "output_throughput", "goodput", "ttft_p50", "ttft_p99", "tpot_p50", "e2e_p50", "e2e_p99")
"""The metrics that the terminal shows without ``-v``, the most important first."""
BLOCKS = 3
"""Up to so many measurements have a line for each number; more have a row each."""
_LESS_TELLING = ("end to end p99", "TPOT p50", "TTFT p99", "end to end p50", "goodput", "on")
"""Columns that a terminal too narrow for them does without, the first to go first."""


@dataclass(frozen=True)
class Kept:
    """What a test has kept."""

    test: str
    """Its node id, with the worker's where several run every test."""
    record: Measured | Compared

    @property
    def name(self) -> str:
        return f"{self.test}, {self.record.name}" if self.record.name else self.test


def document(head: Mapping[str, object], kept: Sequence[Kept]) -> dict[str, object]:
    """The content of ``measurements.json``.

    :param head: Facts about the run as a whole.
    """
    return {
        "version": VERSION,
        **head,
        "measurements": [{"test": each.test, **to_json(each.record)} for each in kept if _is_measured(each)],
        "comparisons": [{"test": each.test, **to_json(each.record)} for each in kept if not _is_measured(each)],
    }


def _is_measured(kept: Kept) -> bool:
    return isinstance(kept.record, Measured)


def heading(kept: Sequence[Kept]) -> str:
    """``2 measurements, 1 comparison``."""
    measured = sum(map(_is_measured, kept))
    parts = [count(measured, "measurement"), count(len(kept) - measured, "comparison")]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def measured_lines(kept: Sequence[tuple[str, Measured]], width: int, *, all_metrics: bool = False) -> list[str]:
    """The table of measurements: a block for each of a few, a row for each of many.

    :param kept: Names and measurements.
    :param width: Of the terminal, in characters.
    """
    if not kept:
        return []
    present = list(dict.fromkeys(metric for _, record in kept for metric in record.measurement.figures))
    shown = [metric for metric in (present if all_metrics else TELLING) if metric in present]
    header = ["test", "load", "on", *map(metric_name, shown)]
    rows = [[_cell(each) for each in _row(name, record, shown)] for name, record in kept]
    if any(record.measurement.errors for _, record in kept):
        header.append("errors")
        rows = [[*row, _cell(errors(record))] for row, (_, record) in zip(rows, kept, strict=True)]
    narrow = len(kept) <= BLOCKS
    lines = fitted(header, rows, 1 if narrow else width, () if narrow or all_metrics else _LESS_TELLING)
    notes = [f"{_cell(name)}: {sanitize.line(note)}" for name, record in kept for note in record.notes]
    return [*lines, *notes]


def _row(name: str, record: Measured, shown: Sequence[str]) -> list[str]:
    figures = record.measurement.figures
    where = ", ".join(filter(None, [record.workload, place(record)]))
    load = f"{load_line(record.measurement.load)}, for {number(record.measurement.seconds)} s"
    return [name, load, where, *(in_words(figures[each]) if each in figures else UNKNOWN for each in shown)]


def errors(record: Measured) -> str:
    """What failed, the most frequent reason first: ``3 x HTTP 500, 1 x timed out``; empty: nothing did."""
    by_number = sorted(record.measurement.errors.items(), key=lambda each: -each[1])
    return ", ".join(f"{number:,} x {reason}" for reason, number in by_number if number)


def compared_lines(name: str, record: Compared) -> list[tuple[str, Finding | None]]:
    """What the terminal says of a comparison: lines, and what those that a finding colours have found."""
    sides = f"{sanitize.line(record.candidate)} (candidate) against {sanitize.line(record.baseline)} (baseline)"
    facts = [
        f"{_cell(name)}: {sides}",
        sanitize.line("; ".join(filter(None, [load_line(record.load), record.gpu, effort(record)]))),
    ]
    header, *rows = sanitize.table(
        ["metric", "slowdown (95 % interval)", "gate", "finding", "could have been seen"],
        map(judged_cells, record.judged),
    )
    lines: list[tuple[str, Finding | None]] = [(line, None) for line in (*facts, header)]
    for row, judged in zip(rows, record.judged, strict=True):
        lines.append((row, judged.finding))
        lines += [(f"  {sanitize.line(judged.why)}", judged.finding)] if judged.why else []
    return [*lines, *((sanitize.line(note), None) for note in record.notes)]


def judged_cells(judged: Judged) -> list[str]:
    """Metric, slowdown, gate, finding, and what could have been seen at all."""
    seen = f"from {percent(judged.resolves)}"
    return [metric_name(judged.metric), slowdown(judged), percent(judged.gate), judged.finding.value, seen]


def _cell(text: str) -> str:
    return sanitize.line(text, sanitize.CELL_CHARS)
