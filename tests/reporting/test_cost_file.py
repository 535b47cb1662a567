from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting.cost_file import CostFile
from pytest_vastgpu.reporting.cost_file import document
from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.reporting.costs import InstanceCost
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.reporting.costs import shares
from tests.support.factories import make_offer

VERDICT = Verdict(FailureClass.UNKNOWN, "price_above_limit")
FAILED = Attempt(
    1, "one", make_offer(machine_id=11), 101, VERDICT, State.BOOTING, {"booting": 2.0}, workload="vllm 'm'"
)
READY = Attempt(
    2, "two", make_offer(machine_id=12), 102, None, None, {"booting": 10.0, "ready": 20.0}, workload="vllm 'm'"
)
FAILED, READY = (replace(attempt, workload="vllm 'm'") for attempt in (FAILED, READY))
BILLS = {
    "one": CostRecord("one", 7.2, 0.0, 0.0, 3.0, gone=True),
    "two": CostRecord("two", 0.72, 0.001, 10.0, 60.0, gone=True),
    "three": CostRecord("three", 0.36, 0.0, 30.0, 60.0),
}
LEFT = replace(READY, number=3, label="three", instance_id=103)
USES = [Use("a", "two", 20, 40), Use("b", "two", 30, 40), Use("a", "three", 40, 50)]
BOOKS = [
    InstanceCost(attempt, BILLS[attempt.label], shares(BILLS[attempt.label], USES)) for attempt in (FAILED, READY, LEFT)
]


def test_what_the_file_says() -> None:
    assert document({"run": "ab"}, BOOKS) == {
        "version": 1,
        "run": "ab",
        "total_usd": 0.02,
        "instances": [
            {
                "label": "one",
                "id": 101,
                "workload": "vllm 'm'",
                "attempt": 1,
                "machine": 11,
                "gpu": "RTX 4090",
                "usd_h": 7.2,
                "seconds": {"booting": 2.0},
                "outcome": "unknown: price_above_limit",
                "age_s": 0.0,
                "reused_at_s": 0.0,
                "gone": True,
                "cost_usd": 0.006,
                "transfer_usd": 0.0,
                "overhead_usd": 0.006,
                "idle_usd": 0.0,
                "tests": [],
            },
            {
                "label": "two",
                "id": 102,
                "workload": "vllm 'm'",
                "attempt": 2,
                "machine": 12,
                "gpu": "RTX 4090",
                "usd_h": 0.72,
                "seconds": {"booting": 10.0, "ready": 20.0},
                "outcome": "ready",
                "age_s": 0.0,
                "reused_at_s": 0.0,
                "gone": True,
                "cost_usd": 0.011,
                "transfer_usd": 0.001,
                "overhead_usd": 0.007,
                "idle_usd": 0.0,
                "tests": [
                    {"test": "a", "seconds": 20.0, "cost_usd": 0.003},
                    {"test": "b", "seconds": 10.0, "cost_usd": 0.001},
                ],
            },
            {
                "label": "three",
                "id": 103,
                "workload": "vllm 'm'",
                "attempt": 3,
                "machine": 12,
                "gpu": "RTX 4090",
                "usd_h": 0.36,
                "seconds": {"booting": 10.0, "ready": 20.0},
                "outcome": "ready",
                "age_s": 0.0,
                "reused_at_s": 0.0,
                "gone": False,
                "cost_usd": 0.003,
                "transfer_usd": 0.0,
                "overhead_usd": 0.002,
                "idle_usd": 0.0,
                "tests": [{"test": "a", "seconds": 10.0, "cost_usd": 0.001}],
            },
        ],
        "tests": [{"test": "a", "cost_usd": 0.004}, {"test": "b", "cost_usd": 0.001}],
    }


def test_what_is_read_from_the_file_adds_up_to_the_last_digit() -> None:
    read = json.loads(json.dumps(document({}, BOOKS)), parse_float=Decimal)
    assert read["total_usd"] == sum(row["cost_usd"] for row in read["instances"])
    for row in read["instances"]:
        assert row["cost_usd"] == sum((test["cost_usd"] for test in row["tests"]), row["overhead_usd"])
    shares = [test["cost_usd"] for row in read["instances"] for test in row["tests"]]
    assert sum(test["cost_usd"] for test in read["tests"]) == sum(shares)


def cost_file(directory: Path, books: Sequence[InstanceCost], warnings: list[str]) -> CostFile:
    return CostFile(directory, {"run": "ab", "budget_usd": 5.0}, lambda: books, warnings.append)


def written(file: CostFile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.path.read_text())
    return found


def test_it_is_written_again_as_a_whole(tmp_path: Path) -> None:
    books: list[InstanceCost] = []
    file = cost_file(tmp_path, books, [])
    books += BOOKS[:1]
    file.write()
    assert [row["label"] for row in written(file)["instances"]] == ["one"]
    assert written(file)["written"] > 1.7e9
    books += BOOKS[1:]
    file.write()
    assert [row["label"] for row in written(file)["instances"]] == ["one", "two", "three"]
    assert [path.name for path in tmp_path.iterdir()] == ["cost.json"]


def test_a_file_that_cannot_be_written_is_told_and_ends_nothing(tmp_path: Path) -> None:
    warnings: list[str] = []
    cost_file(tmp_path / "missing", BOOKS, warnings).write()
    assert len(warnings) == 1
    assert "cost.json cannot be written" in warnings[0]


def test_who_reads_the_books_keeps_nobody_waiting_and_does_not_undo_what_came_later(tmp_path: Path) -> None:
    """Who changes the books locks them meanwhile, and may have to write this file before that is over."""
    now = BOOKS[:1]

    def books() -> list[InstanceCost]:
        nonlocal now
        found, now = now, BOOKS
        if found is not BOOKS:
            other = threading.Thread(target=file.write, daemon=True)
            other.start()
            other.join()
        return found

    file = CostFile(tmp_path, {"run": "ab"}, books, pytest.fail)
    file.write()
    assert [row["label"] for row in written(file)["instances"]] == ["one", "two", "three"]
