from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.model import HostRecord
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.ranking import chance
from pytest_vastgpu.selection.ranking import rank
from pytest_vastgpu.selection.ranking import seconds_to_ready
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.settings import Strictness
from tests.selection.values import offer
from tests.selection.values import workload

reliabilities = st.floats(0, 1)
counts = st.integers(0, 10_000)


def machine(
    successes: float = 0, infra_failures: float = 0, ready_s: float = 0, machine_id: int = 100
) -> MachineRecord:
    return MachineRecord(machine_id, host_id=10, successes=successes, infra_failures=infra_failures, ready_s=ready_s)


def order(
    offers: list[Offer], *records: MachineRecord, level: Strictness = Strictness.BALANCED, **want: Any
) -> list[int]:
    reputation = Reputation(machines={record.machine_id: record for record in records})
    return [one.offer.machine_id for one in rank(offers, workload(**want), POLICIES[level], reputation)]


def two(price_of_2: float = 0.40, **changes: Any) -> list[Offer]:
    return [offer(id=1, machine_id=1), offer(id=2, machine_id=2, host_id=20, price_usd_h=price_of_2, **changes)]


@pytest.mark.parametrize("level", [Strictness.STRICT, Strictness.BALANCED])
def test_success_on_record_is_preferred(level: Strictness) -> None:
    assert order(two(), machine(successes=1, machine_id=2), level=level) == [2, 1]
    assert order(two(0.42), machine(successes=3, machine_id=2), level=level) == [2, 1]


def test_aggressive_is_cheapest_first_whatever_the_record() -> None:
    assert order(two(0.41), machine(successes=99, machine_id=2), level=Strictness.AGGRESSIVE) == [1, 2]
    assert order(two(0.39), machine(infra_failures=99, machine_id=2), level=Strictness.AGGRESSIVE) == [2, 1]


def test_the_transfer_counts() -> None:
    assert order(two(0.39, inet_down_usd_gb=0.02)) == [2, 1]
    assert order(two(0.39, inet_down_usd_gb=0.02), image_gb=10) == [1, 2]
    assert order(two(0.39, inet_down_usd_gb=0.02), image_gb=10, level=Strictness.AGGRESSIVE) == [1, 2]


def test_a_slow_download_is_time_that_is_paid() -> None:
    assert order(two(0.39, inet_down_mbps=100), image_gb=20) == [1, 2]


def test_a_machine_that_was_quick_before_is_preferred() -> None:
    assert order(two(), machine(5, ready_s=400, machine_id=1), machine(5, ready_s=90, machine_id=2)) == [2, 1]


def test_why_names_the_numbers() -> None:
    reputation = Reputation(machines={1: machine(successes=3, infra_failures=1, machine_id=1)})
    ranked = {one.offer.machine_id: one for one in rank(two(), workload(), POLICIES[Strictness.STRICT], reputation)}
    assert "3 successes and 1 infra failures on record" in ranked[1].why
    assert "nothing on record" in ranked[2].why
    assert f"{ranked[1].expected_cost_usd:.4f} USD until ready" in ranked[1].why


@given(reliabilities, st.integers(2, 1000))
def test_one_success_never_outweighs_many_failures(reliability: float, failures: int) -> None:
    unknown = chance(reliability, None, None)
    assert chance(reliability, machine(successes=1, infra_failures=failures), None) < unknown


@given(reliabilities, counts, counts)
def test_a_chance_is_one_and_moves_the_right_way(reliability: float, successes: int, failures: int) -> None:
    now = chance(reliability, machine(successes, failures), None)
    assert 0 < now < 1
    assert chance(reliability, machine(successes + 1, failures), None) > now
    assert chance(reliability, machine(successes, failures + 1), None) < now


@given(reliabilities, counts, counts)
def test_other_machines_of_the_operator_move_it_only_weakly(reliability: float, good: int, bad: int) -> None:
    unknown = chance(reliability, None, None)
    moved = chance(reliability, None, HostRecord(10, successes=good, infra_failures=bad))
    # Less than one start of the machine's own would.
    assert chance(reliability, machine(infra_failures=1), None) <= moved <= chance(reliability, machine(1), None)
    if good and not bad:
        assert moved > unknown
    if bad and not good:
        assert moved < unknown


@given(counts, counts)
def test_a_machine_s_own_starts_are_not_counted_again_for_its_operator(good: int, bad: int) -> None:
    own = machine(good, bad)
    only_machine = HostRecord(10, successes=good, infra_failures=bad)
    assert chance(0.99, own, only_machine) == chance(0.99, own, None)


@given(
    st.integers(0, 100_000),
    st.floats(0, 1e5),
    st.floats(0.95, 1),
    st.floats(0, 50),
    st.sampled_from([Strictness.STRICT, Strictness.BALANCED]),
)
def test_an_unknown_machine_gets_its_turn_when_it_costs_a_third(
    successes: int, ready_s: float, reliability: float, gigabytes: float, level: Strictness
) -> None:
    proven = offer(id=1, machine_id=1, price_usd_h=0.90)
    unknown = dataclasses.replace(proven, id=2, machine_id=2, host_id=20, price_usd_h=0.30, reliability=reliability)
    assert order([proven, unknown], machine(successes, 0, ready_s, 1), level=level, model_gb=gigabytes) == [2, 1]


@given(st.floats(0.95, 1), st.integers(1, 1000), st.floats(0, 600))
def test_an_unknown_machine_comes_before_one_that_only_fails(reliability: float, failures: int, ready_s: float) -> None:
    known, unknown = two(reliability=reliability)
    assume(reliability >= known.reliability - 0.01)
    assert order([known, unknown], machine(0, failures, ready_s, 1)) == [2, 1]


@given(st.permutations(range(8)), st.sampled_from(list(Strictness)))
def test_the_order_does_not_depend_on_the_market_s(permutation: list[int], level: Strictness) -> None:
    offers = [offer(id=i, machine_id=i // 2, price_usd_h=0.2 + (i % 3) / 10) for i in range(8)]
    records = [machine(2, 1, machine_id=1), machine(0, 3, machine_id=2)]
    reputation = Reputation(machines={record.machine_id: record for record in records})

    def ids(found: list[Offer]) -> list[int]:
        return [one.offer.id for one in rank(found, workload(), POLICIES[level], reputation)]

    assert ids([offers[i] for i in permutation]) == ids(offers)
    if level is Strictness.AGGRESSIVE:
        prices = [hourly_usd(offers[i], workload()) for i in ids(offers)]
        assert prices == sorted(prices)


def test_a_machine_that_has_the_image_is_expected_to_be_quicker() -> None:
    slow = {"inet_down_mbps": 200.0}
    offers = [offer(id=1, machine_id=1, **slow), offer(id=2, machine_id=2, **slow)]
    needs: dict[str, Any] = {"image": "me/it:1", "image_gb": 16, "model_gb": 1}
    cached, other = (
        dataclasses.replace(machine(machine_id=2), boot_s={image: 33.0}) for image in ("me/it:1", "me/it:2")
    )
    assert order(offers, cached, **needs) == [2, 1]
    assert order(offers, other, **needs) == [1, 2], "another image says nothing of this one"
    fresh, known = (
        seconds_to_ready(offers[1], workload(**needs), record) for record in (machine(machine_id=2), cached)
    )
    assert fresh - known == pytest.approx(16 * 8000 / 200 + 180 - 33)
    cold = dataclasses.replace(cached, boot_s={"me/it:1": 900.0})
    assert seconds_to_ready(offers[1], workload(**needs), cold) < fresh, "it was pulled then, and need not be again"
