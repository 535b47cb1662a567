from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.planning.plan import Affordable
from pytest_vastgpu.planning.plan import Found
from pytest_vastgpu.planning.plan import make_plan
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.supervisor.money.budget import Budget
from tests.planning.values import LARGE
from tests.planning.values import OFFERS
from tests.planning.values import SMALL
from tests.planning.values import expect
from tests.planning.values import hosts
from tests.planning.values import plan
from tests.planning.values import settings
from tests.selection.values import offer


def test_offers_are_in_the_order_in_which_they_are_tried() -> None:
    (small,) = plan().workloads
    assert [ranked.offer.machine_id for ranked in small.found.ranked] == [2, 1, 3]
    cheapest_first = plan(strictness="aggressive").workloads[0]
    assert [ranked.offer.machine_id for ranked in cheapest_first.found.ranked] == [4, 2, 1, 3]


def test_what_a_machine_did_before_decides_with_the_price() -> None:
    known = Reputation(machines={2: MachineRecord(2, infra_failures=3)})
    (small,) = plan(known=known).workloads
    assert small.best is not None
    assert small.best.offer.machine_id == 1
    assert plan(known=known).unrecorded == 1
    assert plan(known=Reputation(machines={2: MachineRecord(2, successes=3)})).unrecorded == 0


def test_each_workload_is_rented_when_collection_ends_and_no_offer_twice() -> None:
    other = replace(SMALL, model="other")
    found = plan(expect(LARGE, SMALL, SMALL, other))
    # The most needed first, as the pool rents.
    assert [(start.workload.model, start.offer.machine_id) for start in found.starts] == [
        ("small", 2),
        ("large", 3),
        ("other", 1),
    ]
    assert [(each.name, each.tests, each.at_once) for each in found.workloads] == [
        ("vllm 'large'", 1, 1),
        ("vllm 'small'", 2, 1),
        ("vllm 'other'", 1, 1),
    ]


def test_as_many_instances_as_may_be_alive_at_once() -> None:
    one = plan(expect(LARGE, SMALL, SMALL), max_instances=1)
    assert [start.workload for start in one.starts] == [LARGE]  # in the order of the run, where not all fit
    assert [each.at_once for each in one.workloads] == [1, 0]
    three = plan(expect(LARGE, SMALL, SMALL), max_instances=3, workers=2)
    assert [start.workload for start in three.starts] == [SMALL, LARGE, SMALL]
    assert [start.offer.machine_id for start in three.starts] == [2, 3, 1]


def test_a_test_that_may_be_skipped_has_nothing_rented_ahead() -> None:
    found = plan(expect(SMALL, certain=False))
    assert found.starts == ()
    assert found.set_aside_usd == 0
    assert (found.workloads[0].tests, found.workloads[0].certain) == (1, 0)
    assert found.problems == []


def test_tests_that_are_known_only_when_they_run_are_counted() -> None:
    found = plan({**expect(SMALL), "late": Expected(None), "later": Expected(None, certain=False)}, own=3)
    assert (found.unknown, found.own) == (2, 3)


def test_the_worst_case_is_what_the_budget_sets_aside() -> None:
    wanted = replace(SMALL, image_gb=10)
    offers = [replace(each, inet_down_usd_gb=0.01) for each in OFFERS]
    found = plan(expect(wanted), offers, attempts=2)
    budget = Budget(5, settings().longest_life, lambda: 0.0)
    for number, each in enumerate(found.workloads[0].found.ranked[:2]):
        budget.reserve(str(number), each.offer.price_usd_h, transfer_usd(each.offer, wanted))
        if number == 0:
            assert found.set_aside_usd == found.workloads[0].worst_usd == budget.committed_usd > 0.3 * 2 + 0.1
    assert found.every_attempt_usd == pytest.approx(budget.committed_usd)
    assert found.worst_usd == found.every_attempt_usd
    assert plan(expect(wanted), offers, attempts=2, budget=1).worst_usd == 1


def test_a_machine_is_tried_once() -> None:
    twice = [offer(id=1, machine_id=1, price_usd_h=0.2), offer(id=2, machine_id=1, price_usd_h=0.3)]
    assert plan(offers=twice).workloads[0].attempts == 1
    assert plan(attempts=2).workloads[0].attempts == 2
    assert plan().workloads[0].attempts == 3


@pytest.mark.parametrize(
    ("budget", "large", "small"),
    [
        (5, Affordable.AT_ONCE, Affordable.AT_ONCE),
        (2, Affordable.AT_ONCE, Affordable.IN_TURN),
        (1, Affordable.NEVER, Affordable.AT_ONCE),
        (0.1, Affordable.NEVER, Affordable.NEVER),
    ],
)
def test_what_the_budget_does_not_cover(budget: float, large: Affordable, small: Affordable) -> None:
    found = plan(expect(LARGE, SMALL), budget=budget)
    assert [each.affordable for each in found.workloads] == [large, small]
    names = [name for name, text in found.problems if "more than --vast-budget" in text]
    assert names == [each.name for each in found.workloads if each.affordable is Affordable.NEVER]


def test_a_workload_that_comes_later_has_to_fit_beside_the_others() -> None:
    tests = expect(LARGE, SMALL)
    assert [each.affordable for each in plan(tests, max_instances=1).workloads] == [Affordable.AT_ONCE] * 2
    later = plan(tests, max_instances=1, budget=2).workloads[1]
    assert later.affordable is Affordable.IN_TURN


def test_a_workload_that_nothing_fits_is_a_problem() -> None:
    huge = replace(SMALL, gpu_ram_gb=100)
    found = plan(expect(SMALL, huge))
    assert found.problems == [(found.workloads[1].name, "nothing can be rented for it")]
    assert found.workloads[1].affordable is None
    assert found.workloads[1].ready_s == float("inf")
    assert [start.workload for start in found.starts] == [SMALL]


@pytest.mark.parametrize(("credit_usd", "told"), [(0.0, True), (-1.0, True), (0.01, False), (None, False)])
def test_an_account_without_credit_is_a_problem(credit_usd: float | None, told: bool) -> None:
    assert bool(plan(credit_usd=credit_usd).problems) is told


def test_expected_cost_and_time_include_starts_that_fail() -> None:
    found = plan(expect(LARGE, SMALL))
    large, small = (each.best for each in found.workloads)
    assert large is not None
    assert small is not None
    assert found.workloads[0].ready_s == large.seconds / large.chance > large.seconds
    assert found.until_ready_usd == pytest.approx(large.expected_cost_usd + small.expected_cost_usd)
    half_an_hour = 0.5 * (large.offer.price_usd_h + small.offer.price_usd_h)
    assert found.expected_usd == pytest.approx(found.until_ready_usd + half_an_hour)


def test_what_hooks_leave_is_what_is_rented() -> None:
    tests = expect(SMALL)
    survey = plan(tests).workloads[0].found.survey
    last = Found(survey, survey.ranked[-1:], by_hook=True)
    found = make_plan(tests, {SMALL: last}, settings())
    assert [start.offer.machine_id for start in found.starts] == [3]
    nothing = make_plan(tests, {SMALL: Found(survey, (), by_hook=True)}, settings())
    assert nothing.starts == ()
    assert nothing.problems == [("vllm 'small'", "nothing can be rented for it")]


def test_no_test_needs_nothing() -> None:
    empty = plan({})
    assert (empty.workloads, empty.starts, empty.problems, empty.set_aside_usd) == ((), (), [], 0)


def test_hosts_of_a_run_are_of_one_kind_and_each_has_an_offer_of_its_own() -> None:
    cheap = offer(id=10, machine_id=9, host_id=9, price_usd_h=0.1, gpu_name="T4")
    offers = [cheap, *OFFERS]
    assert [start.offer.machine_id for start in plan(hosts(1), offers).starts] == [9]
    assert [start.offer.machine_id for start in plan(hosts(2), offers).starts] == [2, 1]
    other_kind_too = plan({**hosts(2), **expect(SMALL)}, offers)
    assert [start.offer.machine_id for start in other_kind_too.starts] == [2, 1, 9]
