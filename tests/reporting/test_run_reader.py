"""Every file of a run may be missing, cut short, or of any content: the reader makes the most of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.reporting.run import reader
from pytest_vastgpu.reporting.run.reader import read_run
from pytest_vastgpu.reporting.run.report import Phase
from pytest_vastgpu.reporting.run.report import Used
from tests.support.runs import ending_once_read

LABEL = "vastgpu-3f9c21ab-1-6b0c5e85"
RUN = "3f9c21ab"


def event(time: Any, state: str | None, **facts: Any) -> dict[str, Any]:
    return {"time": time, "label": LABEL, "state": state, "text": f"it is {state}", **facts}


VERDICT = {"class": "infra_fatal", "reason": "ssh_never_up", "evidence": "refused", "remedy": "another host"}
LOST = [
    {
        "time": 1.0,
        "label": "",
        "state": None,
        "text": "",
        "workload": "w",
        "admitted": [{"machine": 7}, {"machine": 8}],
    },
    event(2.0, "intended", workload="w", attempt=1, offer={"machine": 8, "gpu": "RTX 4090", "usd_h": 0.4}),
    event(3.0, "created", instance_id=42),
    event(5.0, "ready"),
    event(5.5, "ready", used_mib=[1000.0, 0.0], total_mib=[24564.0, 24564.0]),
    event(6.0, "ready", use="begins", test="t::a", run=RUN, waited_s=4.0),
    event(7.0, "ready", use="begins", test="t::b", run="other"),
    event(8.0, "ready", use="ends", test="t::a", run=RUN, seconds=2.0),
    event(9.0, "failed"),
    event(9.0, "failed", verdict=VERDICT, failed_in="ready", artifacts="/kept"),
    {"time": 9.5, "label": "", "state": None, "text": "waits", "wait": "search", "wait_s": 2.0},
]
COST = {
    "budget_usd": 5.0,
    "total_usd": 0.3,
    "instances": [{"label": LABEL, "cost_usd": 0.3, "gone": False, "tests": [{"test": "t::a", "cost_usd": 0.1}]}],
}
TESTS = {
    "command": "pytest",
    "over": True,
    "exit_status": 1,
    "tests": [{"test": "t::a", "outcome": "error", "when": "setup", "verdict": VERDICT, "attempts": 2}],
}


def write(directory: Path, events: list[Any], cost: Any = None, tests: Any = None) -> Path:
    (directory / "events.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in events))
    for name, value in (("cost.json", cost), ("tests.json", tests)):
        if value is not None:
            (directory / name).write_text(json.dumps(value))
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / RUN
    found.mkdir()
    return found


def test_a_lost_instance(directory: Path) -> None:
    report = read_run(write(directory, LOST, COST, TESTS))
    (lost,) = report.instances
    assert lost.lost
    assert str(lost.verdict) == lost.outcome == "infra_fatal: ssh_never_up"
    assert lost.phases == (
        Phase("intended", 2, 3),
        Phase("created", 3, 5),
        Phase("ready", 5, 9),
        Phase("failed", 9, 9.5),
    )
    assert lost.tests == (Used("t::a", 6, 8, 4), Used("t::b (run other)", 7, 9.5))
    assert lost.idle == (Phase("idle", 5, 6),)
    assert lost.gpu_memory == ((5.5, (1000, 0), (24564, 24564)),)
    assert [(offer.machine, offer.taken) for offer in lost.considered.admitted] == [(7, False), (8, True)]
    assert (lost.cost_usd, lost.overhead_usd, lost.test_costs) == (0.3, 0.0, {"t::a": 0.1})
    assert report.left_alive == (lost,)
    assert [pause.end - pause.start for pause in report.pauses] == [2.0]
    first, other = report.tests
    assert (first.outcome, first.attempts, first.cost_usd, first.artifacts) == ("error", 2, 0.1, "/kept")
    assert (other.nodeid, other.outcome, other.instances) == ("t::b (run other)", "", (LABEL,))
    assert report.failed_tests == (first,)
    assert report.missing == ()


def test_a_directory_without_files(directory: Path) -> None:
    report = read_run(directory)
    assert (report.id, report.instances, report.tests, report.running) == (RUN, (), (), False)
    assert len(report.missing) == 3
    assert list(directory.iterdir()) == []


def test_a_run_that_ends_while_its_files_are_read_was_not_broken_off(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, LOST, COST)
    with ending_once_read(directory, reader, "content", monkeypatch):
        assert read_run(directory).running


def test_only_a_ledger(directory: Path) -> None:
    rows = [
        {"time": 1.0, "step": "run", "url": "https://console.vast.ai", "embedded": False},
        {"time": 2.0, "label": LABEL, "step": "intended"},
        {"time": 3.0, "label": LABEL, "step": "created", "instance_id": 42, "cost_usd": 0.2},
    ]
    (directory / "ledger.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"time": 4, "lab')
    report = read_run(directory)
    (left,) = report.left_alive
    assert (left.id, left.outcome, left.cost_usd, report.total_usd) == (42, "created", 0.2, 0.2)


def test_costs_that_were_written_before_a_run_was_killed(directory: Path) -> None:
    later = LABEL.replace("-1-", "-2-")
    row = {"time": 3.0, "label": later, "step": "created", "instance_id": 43, "cost_usd": 0.2}
    (directory / "ledger.jsonl").write_text(json.dumps(row) + "\n")
    report = read_run(write(directory, LOST, COST, TESTS))
    assert report.total_usd == pytest.approx(sum(each.cost_usd for each in report.instances)) == pytest.approx(0.5)


def test_measurements_of_another_version(directory: Path) -> None:
    (directory / "measurements.json").write_text('{"measurements": [{"test": "a"}, 3], "comparisons": "none"}')
    assert str(read_run(directory).measured) == ""


VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, 5.5, "", "\x1b[31m", "\ud800", "</script>"),
    *([], [[]], [None, 3, {}], {}, {"class": 3}, {"machine": "x", "why": [1]}, LABEL, "ready", "begins", "intended"),
)
KEYS = (
    *("time", "label", "state", "text", "offer", "verdict", "use", "test", "run", "seconds", "waited_s", "used_mib"),
    *("total_mib", "admitted", "rejected", "wait_s", "step", "instance_id", "until", "cost_usd", "instances", "tests"),
    *("total_usd", "outcome", "gone", "exit_status", "started", "duration_s", "message", "measurements"),
)
ROW = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=8)


@settings(max_examples=30)
@given(st.lists(ROW, max_size=6), ROW, ROW, st.binary(max_size=20))
def test_any_content(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], cost: Any, tests: Any, noise: bytes
) -> None:
    directory = write(tmp_path_factory.mktemp("run"), [{"label": LABEL, **row} for row in rows], cost, tests)
    (directory / "ledger.jsonl").write_bytes((directory / "events.jsonl").read_bytes() + noise)
    (directory / "measurements.json").write_bytes(noise)
    report = read_run(directory)
    for each in report.instances:
        assert all(phase.start <= phase.end for phase in (*each.phases, *each.idle))
        assert all(use.start <= use.end for use in each.tests)
