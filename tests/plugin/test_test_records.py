"""What ``tests.json`` says of tests, from the reports of their phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.plugin.test_records import TestRecords


def report(when: Any, outcome: Any, message: str = "") -> pytest.TestReport:
    instance: list[tuple[str, object]] = [("vast_instance", 7)]
    return pytest.TestReport("t::a", ("t", 0, "a"), {}, outcome, message, when, user_properties=instance)


SETUP, TEARDOWN = report("setup", "passed"), report("teardown", "passed")
SUBTEST, WHOLE = report("call", "failed", "assert 1 == 2"), report("call", "failed", "contains 1 failed subtest")


@pytest.mark.parametrize(
    ("reports", "outcome", "message"),
    [
        ([SETUP, report("call", "passed"), TEARDOWN], "passed", ""),
        ([SETUP], "", ""),  # interrupted, or killed, in the middle
        ([SETUP, report("call", "passed")], "", ""),
        ([SETUP, report("call", "failed", "boom")], "failed", "boom"),
        ([SETUP, SUBTEST, WHOLE, TEARDOWN], "failed", "assert 1 == 2"),
        ([SETUP, report("call", "passed"), report("teardown", "failed", "late")], "error", "late"),
        ([SETUP, SUBTEST, report("teardown", "failed", "late")], "error", "late"),
        ([SETUP, SUBTEST, TEARDOWN, SETUP, report("call", "passed"), TEARDOWN], "passed", ""),
        ([SETUP, SUBTEST, TEARDOWN, SETUP], "", ""),
    ],
)
def test_a_test_has_passed_only_when_it_is_over(
    reports: list[pytest.TestReport], outcome: str, message: str, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    records = TestRecords(pytestconfig, tmp_path)
    for each in reports:
        records.pytest_runtest_logreport(each)
    records.end(2)
    (row,) = json.loads((tmp_path / "tests.json").read_text())["tests"]
    assert (row["outcome"], row["message"]) == (outcome, message)
