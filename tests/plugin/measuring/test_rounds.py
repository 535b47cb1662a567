"""Rounds on one host, and the time that they may take: a host in memory, on a clock that its starts move on."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring.comparing.plan import ComparisonPlan
from pytest_vastgpu.measuring.comparing.plan import limit_s
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.load import http_load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.measuring.rounds import HostLost
from pytest_vastgpu.plugin.measuring.rounds import HostMeasured
from pytest_vastgpu.plugin.measuring.rounds import at_fault
from pytest_vastgpu.plugin.measuring.rounds import measure_host
from tests.support.compared import failed
from tests.support.factories import make_offer

LOAD = http_load("/", warmup_s=2)
SIDES = {"A": Workload("command", command="baseline"), "B": Workload("command", command="candidate")}
ROUND_S = 6 * 60 + 8 * 12
"""Six starts of a minute, eight windows with their warm-up."""


class Host:
    """Starts take a minute."""

    offer = make_offer(machine_id=7, price_usd_h=3.6)

    def __init__(self) -> None:
        self.now = 1000.0
        self.start_s: Callable[[str], float] = lambda _side: 60.0
        self.dies = math.inf
        self.of_the_gpu: tuple[str, ...] = ()
        self.unbounded: Mapping[str, Figure] = {}
        self.started: list[str] = []
        self.leads = ""
        self.measured: list[str] = []

    def check_gpus(self) -> GpuCheck:
        return GpuCheck()

    def serve(self, workload: Workload) -> str:
        self.started.append(workload.command)
        self.now += self.start_s(workload.command)
        if self.now >= self.dies:
            raise failed("instance_gone", FailureClass.RUNTIME_LOST)
        return workload.command

    def serve_beside(self, workload: Workload) -> str:
        self.started.append("beside")
        return self.serve(workload)

    def leads_to(self, lease: str, workload: Workload) -> None:
        assert lease == workload.command
        self.leads = lease

    def measure(self, load: Load, seconds: float, *, blames: bool) -> Measurement:
        self.now += load.warmup_s + seconds
        self.measured.append(self.leads)
        figures = {
            "throughput": Figure(2, "1/s", 1, 3, 1),
            "requests": Figure(9, "", 9, 9),
            **dict.fromkeys(self.of_the_gpu, Figure(5, "", 5, 5, -1)),
        }
        return Measurement(load, seconds, figures, unbounded=self.unbounded)


def measured(limit: float, host: Host | None = None, **plan: Any) -> tuple[HostMeasured, list[str]]:
    host = host or Host()
    told, found = list[str](), HostMeasured(7)
    clock = SimpleNamespace(now=lambda: host.now)
    measure_host(
        cast(VastInstance, host), found, SIDES, LOAD, ComparisonPlan(**plan), limit, told.append, now=clock.now
    )
    return found, told


def test_each_round_says_how_long_it_took_and_what_is_to_go() -> None:
    found, told = measured(1e9, rounds=3)
    assert told == [
        "round 1 of 3 on machine 7: 7 min 36 s; about 15 min and 0.91 USD to go",
        "round 2 of 3 on machine 7: 7 min 36 s; about 7 min 40 s and 0.46 USD to go",
        "round 3 of 3 on machine 7: 7 min 36 s",
    ]
    assert (found.seconds, found.round_s, found.stopped) == (3 * ROUND_S, ROUND_S, "")
    assert found.better == {"throughput": 1}, "what is neither better nor worse is no metric to gate"


@pytest.mark.parametrize(("limit", "rounds"), [(3 * ROUND_S, 3), (4 * ROUND_S - 1, 3), (2 * ROUND_S, 2)])
def test_no_round_begins_that_might_end_too_late(limit: float, rounds: int) -> None:
    found, told = measured(limit)
    assert len(found.host.rounds) == len(told) == rounds
    assert found.seconds <= limit
    assert found.stopped.startswith(f"stopped after {rounds} of 6 rounds: one takes 7 min 36 s, and ")
    assert "is the limit (minutes=, --vast-max-lifetime)" in found.stopped


def test_fewer_than_two_rounds_are_an_error() -> None:
    with pytest.raises(MeasurementFailed, match=r"stopped after 1 of 6 rounds: .* two rounds are the least"):
        measured(2 * ROUND_S - 1)


def test_a_time_that_has_no_end_is_not_missing() -> None:
    host = Host()
    host.unbounded = {"e2e_p99": Figure(math.inf, "s", math.inf, math.inf, -1)}
    found, _ = measured(1e9, host, rounds=2)
    assert found.rounds[0].candidate == {"throughput": math.log(2), "e2e_p99": math.inf}


@pytest.mark.parametrize("limit", [1.0, ROUND_S / 2, ROUND_S - 1])
def test_the_first_round_ends_within_the_limit_too(limit: float) -> None:
    host = Host()
    with pytest.raises(MeasurementFailed, match=r"after 0 of 6 rounds: round 1 would have taken longer, and .* limit"):
        measured(limit, host)
    assert host.now <= 1000 + max(limit, 72), "the first start shows how long one takes"


def test_a_round_that_becomes_slow_ends_within_the_limit_and_does_not_count() -> None:
    host = Host()
    host.start_s = lambda _side: 60 if host.now < 1000 + 2 * ROUND_S else 600
    found, told = measured(4 * ROUND_S, host)
    assert len(found.rounds) == len(told) == 2
    assert host.now <= 1000 + 4 * ROUND_S
    assert found.stopped.startswith("stopped after 2 of 6 rounds: round 3 would have taken longer, and 30 min 24 s is")


@pytest.mark.parametrize(("limit", "error"), [(400, MeasurementFailed), (4000, HostLost)])
def test_a_host_that_ends_with_its_life_is_not_at_fault(limit: float, error: type[Exception]) -> None:
    host = Host()
    host.dies, host.start_s = 1000 + 460, lambda _side: 460
    with pytest.raises(error):
        measured(limit, host)


def test_the_limit_is_the_plans_or_the_end_of_the_hosts_life() -> None:
    plan = ComparisonPlan(minutes=10)
    assert limit_s(plan, life_s=7200) == 600
    assert limit_s(plan, life_s=300) == 240, "a minute before"
    assert limit_s(plan, life_s=10) == 0


TOGETHER_S = 2 * 60 + 8 * 12
"""The same windows, and two starts."""


def test_together_each_side_starts_once_in_a_round_and_the_first_takes_turns() -> None:
    host = Host()
    found, told = measured(1e9, host, rounds=2, together=True)
    assert host.started == ["baseline", "beside", "candidate", "candidate", "beside", "baseline"]
    assert "".join(each[0] for each in host.measured) == "bccbcbbc" * 2, "A B B A B A A B"
    assert (found.round_s, len(found.rounds)) == (TOGETHER_S, 2)
    assert told[0] == "round 1 of 2 on machine 7: 3 min 36 s; about 3 min 40 s and 0.22 USD to go"


@pytest.mark.parametrize("limit", [1.0, 60 + 96, TOGETHER_S - 1, 2 * TOGETHER_S - 1])
def test_together_too_no_round_ends_later_than_it_may(limit: float) -> None:
    host = Host()
    with pytest.raises(MeasurementFailed, match="is the limit"):
        measured(limit, host, together=True)
    assert host.now <= 1000 + max(limit, 60)


def test_together_what_the_gpu_tells_of_both_is_no_number_of_a_side() -> None:
    host = Host()
    host.of_the_gpu = ("gpu_memory_peak", "energy_per_token")
    found, _ = measured(1e9, host, rounds=2, together=True)
    assert found.better.keys() == found.rounds[0].candidate.keys() == {"throughput"}
    assert found.missing == dict.fromkeys(
        host.of_the_gpu, "both servers are on the GPU, and it tells only what they take together"
    )
    found, _ = measured(1e9, host, rounds=2)
    assert found.better.keys() == {"throughput", *host.of_the_gpu}


def test_together_the_side_that_started_is_not_the_one_that_breaks_hosts() -> None:
    host = Host()
    host.dies = 1000 + 61
    found = HostMeasured(7)
    with pytest.raises(HostLost) as lost:
        measure_host(
            cast(VastInstance, host), found, SIDES, LOAD, ComparisonPlan(together=True), 1e9, print, lambda: host.now
        )
    assert (lost.value.side, found.worked) == ("B", {"A"})
    assert "the candidate could not be measured" in at_fault([(lost.value, found)] * 2)
