"""Builds what the terminal says of measurements and comparisons at the end of a run, and their JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.layout import fitted
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.figures import UNKNOWN
from pytest_vastgpu.measuring.figures import difference
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import to_json
from pytest_vastgpu.reporting.measured_words import effort
from pytest_vastgpu.reporting.measured_words import in_short
from pytest_vastgpu.reporting.measured_words import load_line
from pytest_vastgpu.reporting.measured_words import metric_name
from pytest_vastgpu.reporting.measured_words import place
from pytest_vastgpu.reporting.sentences import count

VERSION = 1
NAME = "measurements.json"
PAGE = "measurements.html"

TELLING = (
    *("throughput", "output_throughput", "ttft_p50", "e2e_p50", "goodput", "ttft_p99", "tpot_p50", "e2e_p99"),
    *("usd_per_million_tokens", "gpu_memory_peak", "gpu_power"),
)
"""The metrics that the terminal shows without ``-v``, the most important first."""
MOST = 10
"""Of one test so many measurements are shown, on the terminal and the page; the JSON has all."""
PROPERTIES = ("throughput", "output_throughput", "ttft_p50", "e2e_p50", "errors")
"""The metrics that a JUnit file shows."""
BLOCKS = 3
"""Up to so many measurements have a line for each number; more have a row each."""
_SHORT = {"throughput": "requests/s", "output_throughput": "tokens/s"}
"""Headings of columns with rates, which name the unit."""
JUDGED = ("metric", "slowdown", "95 % interval", "gate", "finding", "could be seen")
"""The headings of :func:`judged_cells`."""


@dataclass(frozen=True)
class Kept:
    """What the tests of a run have kept: each record with the test's node id, and its worker's where all run it."""

    measured: Sequence[tuple[str, Measured]] = ()
    compared: Sequence[tuple[str, Compared]] = ()

    def __str__(self) -> str:
        """``2 measurements, 1 comparison``."""
        parts = [count(len(self.measured), "measurement"), count(len(self.compared), "comparison")]
        return ", ".join(part for part in parts if not part.startswith("0 "))


def document(head: Mapping[str, object], kept: Kept) -> dict[str, object]:
    """The content of ``measurements.json``.

    :param head: Facts about the run as a whole.
    """
    return {
        "version": VERSION,
        **head,
        "measurements": [{"test": test, **to_json(record)} for test, record in kept.measured],
        "comparisons": [{"test": test, **to_json(record)} for test, record in kept.compared],
    }


def few(measured: Sequence[tuple[str, Measured]]) -> tuple[list[tuple[str, Measured]], list[str]]:
    """Those measurements that are shown, and a sentence for each test that has more of them."""
    shown, numbers = list[tuple[str, Measured]](), Counter[str]()
    for test, record in measured:
        numbers[test] += 1
        if numbers[test] <= MOST:
            shown.append((test, record))
    left_out = [
        f"{test}: the first {MOST} of its {number:,} measurements are shown; {NAME} has all"
        for test, number in numbers.items()
        if number > MOST
    ]
    return shown, left_out


def properties(record: Measured | Compared) -> list[tuple[str, object]]:
    """What a JUnit file shows of a record: names and values."""
    if isinstance(record, Compared):
        return [
            pair
            for each in record.judged
            for pair in (
                (f"{each.metric}_finding", each.finding.value),
                *([(f"{each.metric}_slowdown", f"{each.slowdown:.4g}")] if each.rounds else []),
            )
        ]
    figures = record.measurement.figures
    values = [(metric, f"{figures[metric].value:.6g}") for metric in PROPERTIES if metric in figures]
    return [("load", title(load_line(record.measurement.load), record)), *values]


def title(test: str, record: Measured | Compared) -> str:
    """The test, and which of its measurements it is."""
    return f"{test}, {record.name}" if record.name else test


def measured_lines(measured: Sequence[tuple[str, Measured]], width: int, *, all_metrics: bool = False) -> list[str]:
    """The table of measurements: a block for each of a few, a row for each of many.

    :param width: Of the terminal, in characters: rows go without what has no room.
    :param all_metrics: Whether every metric is shown, in blocks, and not only the telling ones.
    """
    measured, more = few(measured)
    present = list(dict.fromkeys(metric for _, record in measured for metric in record.measurement.figures))
    shown = [metric for metric in (present if all_metrics else TELLING) if metric in present and metric != "errors"]
    if len(measured) <= BLOCKS or all_metrics:
        header = ["test", "load", "on", *(_cell(metric_name(metric)) for metric in shown), "errors"]
        # Nothing is narrower than a block, in which each number has a line.
        lines = fitted(header, [_row(*each, shown, _with_reason) for each in measured], 1) if measured else []
    else:
        metrics = [_SHORT.get(metric, metric_name(metric)) for metric in shown]
        header = ["test", "load", "on", *metrics, "errors"]
        expendable = ["on", "load", *reversed(metrics[1:])]
        lines = fitted(header, [_row(*each, shown, _short) for each in measured], width, expendable)
    footnotes = [f"{_cell(title(*each))}: {sanitize.line(note)}" for each in measured for note in notes(each[1])]
    return [*lines, *dict.fromkeys(footnotes), *map(sanitize.line, more)]


def _row(test: str, record: Measured, metrics: Sequence[str], cell: Callable[[Measurement, str], str]) -> list[str]:
    where = ", ".join(filter(None, [record.workload, place(record)]))
    load = f"{load_line(record.measurement.load)}, for {record.measurement.seconds:g} s"
    values = [cell(record.measurement, metric) for metric in metrics]
    return [_cell(each) for each in (title(test, record), load, where, *values, errors(record) or "none")]


def _with_reason(found: Measurement, metric: str) -> str:
    if metric in found.figures:
        return str(found.figures[metric])
    return f"{UNKNOWN}: {found.missing[metric]}" if metric in found.missing else UNKNOWN


def _short(found: Measurement, metric: str) -> str:
    return in_short(found.figures[metric]) if metric in found.figures else "-"


def notes(record: Measured) -> list[str]:
    """What must be known to read the numbers, in sentences."""
    found = record.measurement
    hardware = [f"hardware: {found.hardware_problem}"] if found.hardware_problem else []
    return [*hardware, *found.notes, *record.notes]


def errors(record: Measured) -> str:
    """What failed, the most frequent reason first: ``3 x HTTP 500, 1 x timed out``; empty: nothing did."""
    by_number = sorted(record.measurement.errors.items(), key=lambda each: -each[1])
    return ", ".join(f"{number:,} x {reason}" for reason, number in by_number if number)


def compared_lines(test: str, record: Compared) -> list[tuple[str, str]]:
    """What the terminal says of a comparison: lines, each with the finding that colours it, or empty."""
    sides = f"{record.candidate} (candidate) against {record.baseline} (baseline)"
    facts = [
        f"{_cell(title(test, record))}: {sanitize.line(sides)}",
        sanitize.line("; ".join(filter(None, [load_line(record.load), record.gpu, effort(record)]))),
    ]
    header, *rows = sanitize.table(JUDGED, map(judged_cells, record.judged))
    lines = [(line, "") for line in (*facts, header)]
    for row, judged in zip(rows, record.judged, strict=True):
        lines.append((row, judged.finding.value))
        lines += [(f"  {sanitize.line(judged.why)}", judged.finding.value)] if judged.why else []
    return [*lines, *((sanitize.line(note), "") for note in record.notes)]


def judged_cells(judged: Judged) -> list[str]:
    """A gated metric: its slowdown, its gate, its finding, and what could have been seen at all."""
    known = judged.rounds > 0
    return [
        metric_name(judged.metric),
        difference(judged.slowdown) if known else UNKNOWN,
        f"{difference(judged.low)} to {difference(judged.high)}" if known else "",
        difference(judged.gate),
        judged.finding.value,
        f"from {difference(judged.resolves)}" if known else "",
    ]


def _cell(text: str) -> str:
    return sanitize.line(text, sanitize.CELL_CHARS)
