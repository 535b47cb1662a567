"""Rounds on one host, and the time that they may take: a host in memory, on a clock that its starts move on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.load import http_load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.plan import ComparisonPlan
from pytest_vastgpu.measuring.plan import limit_s
from pytest_vastgpu.model import Fairness
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.measuring.rounds import HostMeasured
from pytest_vastgpu.plugin.measuring.rounds import measure_host
from tests.support.factories import make_offer

LOAD = http_load("/", warmup_s=2)
SIDES = {"A": Workload("command", command="baseline"), "B": Workload("command", command="candidate")}
ROUND_S = 5 * 60 + 8 * 12
"""Five starts of a minute, eight windows with their warm-up."""


class Host:
    """Starts take a minute."""

    offer = make_offer(machine_id=7, price_usd_h=3.6)

    def __init__(self) -> None:
        self.now = 1000.0

    def fairness(self) -> Fairness:
        return Fairness()

    def serve(self, _workload: Workload) -> None:
        self.now += 60

    def measure(self, load: Load, seconds: float) -> Measurement:
        self.now += load.warmup_s + seconds
        return Measurement(load, seconds, {"throughput": Figure(2, "1/s", 1, 3, 1), "requests": Figure(9, "", 9, 9)})


def measured(limit: float, **plan: Any) -> tuple[HostMeasured, list[str]]:
    host, told, found = Host(), list[str](), HostMeasured(7)
    clock = SimpleNamespace(now=lambda: host.now)
    measure_host(
        cast(VastInstance, host), found, SIDES, LOAD, ComparisonPlan(**plan), limit, told.append, now=clock.now
    )
    return found, told


def test_each_round_says_how_long_it_took_and_what_is_to_go() -> None:
    found, told = measured(1e9, rounds=3)
    assert told == [
        "round 1 of 3 on machine 7: 6 min 36 s; about 13 min 12 s and 0.7920 USD to go",
        "round 2 of 3 on machine 7: 6 min 36 s; about 6 min 36 s and 0.3960 USD to go",
        "round 3 of 3 on machine 7: 6 min 36 s",
    ]
    assert (found.seconds, found.round_s, found.stopped) == (3 * ROUND_S, ROUND_S, "")
    assert found.better == {"throughput": 1}, "what is neither better nor worse is no metric to gate"


@pytest.mark.parametrize(("limit", "rounds"), [(3 * ROUND_S, 3), (4 * ROUND_S - 1, 3), (2 * ROUND_S, 2)])
def test_no_round_begins_that_might_end_too_late(limit: float, rounds: int) -> None:
    found, told = measured(limit)
    assert len(found.host.rounds) == len(told) == rounds
    assert found.seconds <= limit
    assert found.stopped.startswith(f"stopped after {rounds} of 6 rounds: one takes 6 min 36 s, and ")
    assert "is the limit (minutes=, --vast-max-lifetime)" in found.stopped


def test_fewer_than_two_rounds_are_an_error() -> None:
    with pytest.raises(MeasurementFailed, match=r"stopped after 1 of 6 rounds: .* two rounds are the least"):
        measured(2 * ROUND_S - 1)


def test_the_limit_is_the_plans_or_the_end_of_the_hosts_life() -> None:
    plan = ComparisonPlan(minutes=10)
    assert limit_s(plan, life_s=7200) == 600
    assert limit_s(plan, life_s=300) == 240, "a minute before"
    assert limit_s(plan, life_s=10) == 0
