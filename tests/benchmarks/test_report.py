"""The benchmarks run, in their smallest form, and tell what they found; what they found is nobody's test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.__main__ import NAMES
from tests.benchmarks.report import Row

ROOT = Path(__file__).parents[2]
SECONDS_ONLY = {"lives", "ranking", "verdicts_vs_substrings"}
"""Quick enough to be tried each time."""


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (Row("a", 1.5), ("a", "1.5 s", "", "", "")),
        (Row("a", 0.0123, most=0.1), ("a", "12.3 ms", "", "", "≤ 100 ms: met")),
        (Row("a", 0.2, most=0.1), ("a", "200 ms", "", "", "≤ 100 ms: missed")),
        (Row("a", 2, others=4, beside="b", most_ratio=0.5), ("a", "2 s", "4 s b", "0.5", "ratio ≤ 0.5: met")),
        (Row("a", 3, others=2, most=3, most_ratio=1), ("a", "3 s", "2 s", "1.5", "≤ 3 s, ratio ≤ 1: missed")),
        (Row("a", 0, "", most=0), ("a", "0", "", "", "≤ 0: met")),
        (Row("a", 1, "", others=0, most_ratio=1), ("a", "1", "0", "", "ratio ≤ 1: missed")),
        (Row("a", 8e-6, others=16e-6), ("a", "8 µs", "16 µs", "0.5", "")),
        (Row("a", 12345.6, "M instructions"), ("a", "12,346 M instructions", "", "", "")),
    ],
)
def test_a_row_shows_what_was_measured_and_whether_its_goals_are_met(row: Row, cells: tuple[str, ...]) -> None:
    assert row.cells() == cells
    assert report.from_json(json.loads(json.dumps(report.as_json([row])))) == [row]


@pytest.mark.parametrize(
    ("number", "share", "value"),
    [(1, 0.95, 1), (20, 0.95, 19), (20, 0.96, 20), (100, 0.0, 1), (100, 0.5, 50), (100, 0.99, 99), (100, 1.0, 100)],
)
def test_percentile(number: int, share: float, value: int) -> None:
    assert report.percentile(range(number, 0, -1), share) == value


def test_the_table_is_markdown() -> None:
    assert report.table([Row("what it was", 1)]) == (
        "| what        | ours | others | ratio | goal |\n"
        "| ----------- | ---- | ------ | ----- | ---- |\n"
        "| what it was | 1 s  |        |       |      |\n"
    )


def test_every_benchmark_is_run_by_the_one_command() -> None:
    offering = {path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef rows(" in path.read_text()}
    assert offering == set(NAMES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SECONDS_ONLY else pytest.mark.slow) for name in NAMES]
)
def test_each_runs_in_its_smallest_form(tmp_path: Path, name: str) -> None:
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--only", name, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())["benchmarks"][name]
    if found["skipped"]:
        pytest.skip(found["skipped"])
    rows = report.from_json(found["rows"])
    assert rows
    assert report.table(rows) in done.stdout
