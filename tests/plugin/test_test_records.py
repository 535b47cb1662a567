"""What is recorded of each test that used an instance, from the reports of its phases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.plugin.reporting.test_records import MESSAGE_CHARS
from pytest_vastgpu.plugin.reporting.test_records import TestRecords

Write = Callable[..., list[dict[str, Any]]]


def report(when: Any, outcome: Any = "passed", text: str = "", worker: str = "") -> pytest.TestReport:
    """The report of a phase of a test that uses an instance."""
    made: Any = pytest.TestReport("test_it.py::test_it", ("test_it.py", 0, "test_it"), {}, outcome, text or None, when)
    made.user_properties = [("vast_instance", 4711)]
    if worker:
        made.node = SimpleNamespace(gateway=SimpleNamespace(id=worker))
    found: pytest.TestReport = made
    return found


@pytest.fixture
def rows(pytestconfig: pytest.Config, tmp_path: Path) -> Write:
    """A function that writes the file after some reports, and returns its rows."""

    def write(*reports: pytest.TestReport, in_each: bool = False) -> list[dict[str, Any]]:
        records = TestRecords(pytestconfig, tmp_path, in_each=in_each)
        for each in reports:
            records.pytest_runtest_logreport(each)
        records.end(0)
        tests: list[dict[str, Any]] = json.loads((tmp_path / "tests.json").read_text())["tests"]
        return tests

    return write


def test_a_try_that_another_one_follows_has_no_teardown(rows: Write) -> None:
    setup, tried = report("setup"), report("call", "rerun", "of the first try")
    (row,) = rows(setup, tried, report("setup"), report("call"), report("teardown"))
    assert (row["tries"], row["outcome"], row["message"]) == (2, "passed", "")


def test_where_each_worker_runs_a_test_each_has_an_entry(rows: Write) -> None:
    phases = [report(when, worker=worker) for when in ("setup", "call", "teardown") for worker in ("gw0", "gw1")]
    found = rows(*phases, in_each=True)
    assert [(row["worker"], row["tries"]) for row in found] == [("gw0", 1), ("gw1", 1)]


def test_a_message_is_cut_where_no_secret_is(rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KNOWN, "_forms", {})
    KNOWN.add("KEY", "0123456789" * 4)
    (row,) = rows(report("call", "failed", "x" * (MESSAGE_CHARS - 20) + "0123456789" * 4), report("teardown"))
    assert "0123456789" not in row["message"]
    assert len(row["message"]) <= MESSAGE_CHARS


PASSED, BOOM = report("call"), report("call", "failed", "boom")
SETUP, TEARDOWN, LATE = report("setup"), report("teardown"), report("teardown", "failed", "late")
SUBTEST, WHOLE = report("call", "failed", "assert 1 == 2"), report("call", "failed", "contains 1 failed subtest")


@pytest.mark.parametrize(
    ("reports", "outcome", "message"),
    [
        ([SETUP, PASSED, TEARDOWN], "passed", ""),
        ([SETUP], "", ""),  # interrupted, or killed, in the middle
        ([SETUP, PASSED], "", ""),
        ([SETUP, BOOM], "failed", "boom"),
        ([SETUP, SUBTEST, WHOLE, TEARDOWN], "failed", "assert 1 == 2"),
        ([SETUP, PASSED, LATE], "error", "late"),
        ([SETUP, SUBTEST, LATE], "error", "late"),
        ([SETUP, SUBTEST, TEARDOWN, SETUP, PASSED, TEARDOWN], "passed", ""),
        ([SETUP, SUBTEST, TEARDOWN, SETUP], "", ""),
    ],
)
def test_a_test_has_passed_only_when_it_is_over(
    reports: list[pytest.TestReport], outcome: str, message: str, rows: Write
) -> None:
    (row,) = rows(*reports)
    assert (row["outcome"], row["message"]) == (outcome, message)
