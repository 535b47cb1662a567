"""The GPU check where the host cannot be asked, and what is recorded of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.hostcheck import gpu_check
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.memory import Script

HOT = "0, 210, 3105, 405, 10501, 16, 16, 91, 0x41\n@@ state 0\n@@ end 0\n"


@pytest.mark.parametrize(
    ("answer", "hardware_problem", "note"),
    [
        (ProbeResult("run", ProbeFailure.NONE, 0, HOT, "", 2.0), "GPU 0 is slowed down", "there is no nvidia-smi"),
        (ProbeResult("run", ProbeFailure.TRANSPORT, None, HOT, "cut off", 2.0), "", "not looked at: cut off"),
        (ProbeResult("run", ProbeFailure.TIMEOUT, None, "", "", 100.0), "", "not looked at: timeout"),
    ],
)
def test_what_a_look_says_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: ProbeResult, hardware_problem: str, note: str
) -> None:
    life = Life(tmp_path, [Script()], any_key())
    rental = life.bring_up()
    monkeypatch.setattr(rental, "workload", replace(rental.workload, gpus=1))
    registry = RentalRegistry(3600.0, lambda _: None, life.clock)
    registry.started(rental)
    recorded = list[tuple[Attempt, Workload]]()
    access = InstanceAccess(registry, lambda attempt, workload: recorded.append((attempt, workload)))
    asked = list[object]()

    def run(*arguments: object) -> ProbeResult:
        asked.append(arguments)
        return answer

    monkeypatch.setattr(access, "run", run)
    found = access.check_gpus(rental.label)
    assert asked == [(rental.label, gpu_check.SCRIPT, gpu_check.TIMEOUT_S)]
    assert hardware_problem in found.hardware_problem
    assert note in found.notes[-1]
    assert [attempt.verdict for attempt, _ in recorded] == ([found.verdict] if hardware_problem else [])
    rental.give_back()


def test_what_a_measurement_has_seen_is_recorded(tmp_path: Path) -> None:
    life = Life(tmp_path, [Script()], any_key())
    rental = life.bring_up()
    registry = RentalRegistry(3600.0, lambda _: None, life.clock)
    registry.started(rental)
    recorded = list[tuple[str, str]]()

    def record(attempt: Attempt, _: Workload) -> None:
        assert attempt.verdict is not None
        recorded.append((attempt.verdict.reason, attempt.verdict.evidence))

    InstanceAccess(registry, record).report_hardware_problem(
        rental.label, "GPU 0 was slowed down in 40% of the time: too hot"
    )
    assert recorded == [("gpu_throttled", "GPU 0 was slowed down in 40% of the time: too hot")]
    rental.give_back()
