from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.money.budget import GOING_S
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.money.budget import too_dear
from tests.support.factories import make_offer
from tests.support.quick import only

HOUR_S = 3600.0
WHOLE_HOUR_S = HOUR_S - GOING_S
"""A life with which the worst case is exactly one hour."""


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_worst_case_is_reserved_and_replaced_by_the_truth() -> None:
    budget = Budget(5.0, WHOLE_HOUR_S)
    budget.reserve("a", 2.5, 0.5)
    with pytest.raises(BudgetSpent) as refused:
        budget.reserve("b", 2.0, 0.5)
    assert str(refused.value) == (
        "renting once more could cost 2.50 USD (2.0000 USD/h for 1.00 h and 0.50 USD of transfer); with 0.00 USD spent "
        "and 3.00 USD reserved for what is running that is more than --vast-budget 5 USD: raise the budget, or lower "
        "--vast-max-lifetime or --vast-max-price"
    )
    budget.settle("a", 0.4)
    budget.settle("a", 0.4)  # told twice, counted once
    budget.reserve("b", 4.6, 0.0)
    with pytest.raises(BudgetSpent, match=r"with 0\.40 USD spent and 4\.60 USD reserved"):
        budget.reserve("c", 0.1, 0.0)


def test_the_time_of_the_destroy_is_reserved_too() -> None:
    assert DEFAULTS.destroy_within_s < GOING_S
    budget = Budget(1.0, HOUR_S)
    with pytest.raises(BudgetSpent):
        budget.reserve("a", 1.0, 0.0)
    budget.reserve("a", HOUR_S / (HOUR_S + GOING_S), 0.0)


@pytest.mark.parametrize(("true_usd_h", "left_usd"), [(0.5, 4.5), (2.0, 3.0), (1.0, 4.0)])
def test_the_markets_price_takes_the_place_of_the_offers(true_usd_h: float, left_usd: float) -> None:
    budget = Budget(5.0, WHOLE_HOUR_S)
    budget.reserve("a", 1.0, 0.0)
    budget.reprice("a", true_usd_h)
    with pytest.raises(BudgetSpent):
        budget.reserve("b", left_usd + 0.01, 0.0)
    budget.reserve("b", left_usd, 0.0)


def test_a_price_that_no_longer_fits_is_told_and_stays_set_aside() -> None:
    budget = Budget(5.0, WHOLE_HOUR_S)
    budget.reserve("a", 1.0, 0.0)
    budget.reserve("b", 3.0, 0.0)
    with pytest.raises(BudgetSpent, match=r"an instance that costs 2\.5000 USD/h in truth, not 1\.0000 USD/h, could"):
        budget.reprice("a", 2.5)
    assert budget.committed_usd == pytest.approx(5.5)
    budget.settle("a", 0.1)
    budget.reprice("a", 9.0)  # it is gone: nothing to set aside
    assert budget.committed_usd == pytest.approx(3.1)


def test_what_outlives_its_worst_case_goes_on_using_the_budget_up() -> None:
    clock = Clock()
    budget = Budget(3.0, WHOLE_HOUR_S, clock)
    budget.reserve("cannot be destroyed", 1.0, 0.5)
    clock.now = HOUR_S
    assert budget.committed_usd == pytest.approx(1.5)
    clock.now = 2 * HOUR_S
    assert budget.committed_usd == pytest.approx(2.5)
    with pytest.raises(BudgetSpent):
        budget.reserve("b", 1.0, 0.0)


WORKLOAD = Workload("vllm", image_gb=10, expected_use_s=1800)
OFFER = make_offer(price_usd_h=0.5, inet_down_usd_gb=0.02)


@pytest.mark.parametrize(
    ("shown", "limit", "stays"),
    [
        (0.5, 0.9, True),  # 0.2 USD of transfer over half an hour is 0.4 USD/h
        (0.5, 0.8995, True),  # a rounded price is the same price
        (0.5, 0.89, False),
        (0.4, 0.89, True),
        (1.0, 1.4, True),
        (1.1, 1.4, False),
    ],
)
def test_a_price_is_judged_as_the_offers_was(shown: float, limit: float, stays: bool) -> None:
    assert (too_dear(OFFER, WORKLOAD, shown, limit) is None) is stays


def test_an_instance_that_is_too_dear_blames_nobody_and_shows_both_prices() -> None:
    verdict = too_dear(OFFER, WORKLOAD, 1.0, 0.9)
    assert verdict is not None
    assert (verdict.failure_class, verdict.reason) == (FailureClass.UNKNOWN, "price_above_limit")
    assert verdict.evidence == (
        "the market bills 1.0000 USD/h for it, its offer said 0.5000 USD/h; with the transfer that is 1.4000 USD/h, "
        "more than --vast-max-price 0.9 USD/h"
    )


# --- never above the budget -------------------------------------------------------------------------------------------


class Instance:
    """One instance of a schedule, billed as a market does: from its creation to its destruction, by the second."""

    def __init__(self, created: float, usd_h: float, transfer_usd: float) -> None:
        self.created = created
        self.usd_h = usd_h
        self.transfer_usd = transfer_usd
        self.gone = float("inf")

    def bill(self, now: float) -> float:
        return self.usd_h * (min(now, self.gone) - self.created) / HOUR_S + self.transfer_usd


Step = tuple[float, str, int]
"""When, what, and to which instance."""


def _fate(choose: random.Random, at: float, life_s: float, number: int) -> tuple[list[Step], float]:
    """When its price is shown, its end comes and it is gone; when its worker is free again."""
    shown = at + choose.uniform(1, 60)
    end = at + choose.choice([choose.uniform(60, life_s), life_s])
    gone = end + choose.choice([3.0, choose.uniform(0, GOING_S), GOING_S])
    return [(shown, "shown", number), (gone, "gone", number)], gone


@pytest.mark.parametrize("seed", only([0], range(10)))
def test_a_thousand_random_schedules_never_pass_the_budget(seed: int) -> None:
    rents = refusals = 0
    for schedule in range(100):
        choose = random.Random(f"{seed}/{schedule}")
        clock = Clock()
        limit, life_s = choose.uniform(0.5, 20), choose.uniform(900, 7200)
        budget = Budget(limit, life_s, clock)
        instances: list[Instance] = []
        prices: list[float] = []
        steps: list[Step] = [(choose.uniform(0, 60), "rent", -1) for _ in range(choose.randint(1, 16))]
        for _ in range(200):
            if not steps:
                break
            now, what, number = steps.pop(steps.index(min(steps)))
            clock.now = now
            if what == "rent":
                usd_h, transfer = choose.uniform(0.05, 3), choose.choice([0.0, choose.uniform(0, 0.5)])
                label = str(len(instances))
                try:
                    budget.reserve(label, usd_h, transfer)
                except BudgetSpent:
                    refusals += 1
                    steps.append((now + choose.uniform(1, 3600), "rent", -1))
                    continue
                if choose.random() < 0.2:  # another user has taken the offer
                    budget.settle(label, 0.0)
                    steps.append((now + 1, "rent", -1))
                    instances.append(Instance(now, 0.0, 0.0))
                    prices.append(0.0)
                    continue
                true_usd_h = usd_h * choose.choice([1.0, 1.0, choose.uniform(0.5, 3.0)])
                instances.append(Instance(now, true_usd_h, transfer))
                prices.append(true_usd_h)
                fate, free = _fate(choose, now, life_s, int(label))
                steps += [*fate, (free + choose.uniform(0, 60), "rent", -1)]
                rents += 1
            elif what == "shown" and instances[number].gone > now:
                try:
                    budget.reprice(str(number), prices[number])
                except BudgetSpent:  # destroyed at once, and seen to be gone as late as can be
                    steps = [step for step in steps if step[1:] != ("gone", number)]
                    steps.append((now + GOING_S, "gone", number))
            elif what == "gone":
                instances[number].gone = now
                budget.settle(str(number), instances[number].bill(now))
            spent = sum(instance.bill(now) for instance in instances)
            assert spent <= limit + 1e-9, f"schedule {seed}/{schedule}: {spent} of {limit} USD after {now} s"
    assert rents > 500
    assert refusals > 500


@pytest.fixture
def hectic() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_never_reserve_more_than_there_is(hectic: None) -> None:
    """What is noted after a reservation and struck off before its end is never more than what is reserved."""
    limit = 3.0
    budget = Budget(limit, WHOLE_HOUR_S)
    lock = threading.Lock()
    held: dict[str, float] = {}
    settled: list[float] = []
    worst: list[float] = []

    def work(worker: int) -> None:
        choose = random.Random(worker)
        for number in range(200):
            label, usd_h = f"{worker}-{number}", choose.uniform(0.3, 1.5)
            try:
                budget.reserve(label, usd_h, 0.0)
            except BudgetSpent:
                continue
            with lock:
                held[label] = usd_h
                worst.append(sum(held.values()) + sum(settled))
            cost = usd_h / 100
            with lock:
                del held[label]
            budget.settle(label, cost)
            with lock:
                settled.append(cost)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert max(worst) <= limit
    assert len(settled) > 100
    assert budget.committed_usd == pytest.approx(sum(settled))


# --- prices that rise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(200))
def test_an_instance_that_goes_when_its_money_is_over_never_passes_the_budget(seed: int) -> None:
    choose = random.Random(seed)
    clock = Clock()
    limit, life_s = choose.uniform(1, 20), choose.uniform(900, 7200)
    budget = Budget(limit, life_s, clock)
    usd_h, transfer = choose.uniform(0.05, 0.3), choose.uniform(0, 0.1)
    budget.reserve("others", choose.uniform(0, 0.1), 0.0)
    others = budget.committed_usd
    budget.reserve("a", usd_h, transfer)
    looked = choose.uniform(0, life_s)  # the last look before the raise, which came just afterwards
    clock.now = looked + choose.uniform(0, 60)
    raised = usd_h * choose.uniform(1, 100)
    earlier = usd_h * looked / HOUR_S
    ends = life_s
    try:
        budget.reprice("a", raised, since=looked, earlier_usd=earlier)
    except BudgetSpent:
        lasts = budget.lasts_s("a")
        if lasts <= 0:  # no rule could help: what was raised before it could be seen costs too much
            return
        ends = min(life_s, clock.now + lasts)
    cost = earlier + raised * (ends + GOING_S - looked) / HOUR_S + transfer
    assert cost + others <= limit + 1e-9


@pytest.mark.parametrize("usd_h", [-0.1, float("nan"), float("inf")])
def test_a_price_that_cannot_be_true_is_never_reserved(usd_h: float) -> None:
    budget = Budget(5.0, WHOLE_HOUR_S)
    for amounts in ((usd_h, 0.0), (0.1, usd_h)):
        with pytest.raises(BudgetSpent):
            budget.reserve("a", *amounts)
    budget.reserve("a", 0.1, 0.0)
    budget.settle("a", -100.0)
    assert budget.committed_usd == 0.0
