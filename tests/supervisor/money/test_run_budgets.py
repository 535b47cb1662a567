"""Who pays for an instance: one run after another, and each only for its own time."""

from __future__ import annotations

import math

import pytest

from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.supervisor.money.budget import GOING_S
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets

HOUR_S = 3600.0


class Scene:
    """Two runs with 2 USD each, and an instance for 1 USD/h that the first one has rented."""

    def __init__(self) -> None:
        self.now = 0.0
        self.one, self.two = (Budget(2.0, HOUR_S - GOING_S, lambda: self.now) for _ in range(2))
        self.budgets = RunBudgets()
        self.budgets.join("one", self.one)
        self.budgets.join("two", self.two)
        self.budgets.reserve("one", "a", 1.0, 0.5, self.now)


def test_the_run_that_rents_sets_the_worst_case_aside() -> None:
    scene = Scene()
    assert scene.budgets.payer("a") == "one"
    assert (scene.one.committed_usd, scene.two.committed_usd) == (1.5, 0.0)


def test_what_waits_costs_its_run_no_more_than_it_may_wait() -> None:
    scene = Scene()
    scene.now = 900.0
    scene.budgets.wait("a", 1.0, 0.75, 360.0 - GOING_S, scene.now)
    assert scene.one.committed_usd == pytest.approx(0.75 + 0.1)
    scene.now = 1260.0
    scene.budgets.settle("a", 0.85)
    assert scene.one.committed_usd == pytest.approx(0.85)
    (payment,) = scene.budgets.payments("a")
    assert (payment.run, payment.idle_since) == ("one", 900.0)


def test_the_next_run_pays_from_then_on() -> None:
    scene = Scene()
    scene.now = 900.0
    scene.budgets.wait("a", 1.0, 0.75, 1800.0, scene.now)
    scene.now = 1080.0
    scene.budgets.hand_over("a", "two", 1.0, 0.8, 1800.0 - GOING_S, scene.now)
    assert scene.one.committed_usd == pytest.approx(0.8)
    assert scene.two.committed_usd == pytest.approx(0.5)
    scene.budgets.settle("a", 1.1)
    assert scene.two.committed_usd == pytest.approx(0.3)
    assert [(each.run, each.since, each.until) for each in scene.budgets.payments("a")] == [
        ("one", 0.0, 1080.0),
        ("two", 1080.0, math.inf),
    ]


def test_a_run_whose_money_does_not_suffice_gets_nothing_and_nothing_changes() -> None:
    scene = Scene()
    scene.two.reserve("b", 1.9, 0.0)
    with pytest.raises(BudgetSpent, match=r"^an instance that is there already could cost "):
        scene.budgets.hand_over("a", "two", 1.0, 0.5, HOUR_S, scene.now)
    assert scene.budgets.payer("a") == "one"
    assert scene.one.committed_usd == 1.5


def test_what_cannot_be_paid_for_does_not_wait() -> None:
    scene = Scene()
    scene.one.reserve("b", 0.5, 0.0)
    with pytest.raises(BudgetSpent, match=r"^keeping an instance warm could cost "):
        scene.budgets.wait("a", 9.0, 0.5, HOUR_S, scene.now)
    assert scene.one.committed_usd == 2.0, "its reservation stays until it is gone"


def test_a_raised_price_is_the_payer_s() -> None:
    scene = Scene()
    scene.budgets.hand_over("a", "two", 1.0, 0.5, HOUR_S - GOING_S, scene.now)
    scene.now = 360.0
    scene.budgets.reprice("a", 1.5, since=360.0, earlier_usd=0.1)
    assert scene.two.committed_usd == pytest.approx(0.1 + 1.5 * 0.9)
    assert scene.one.committed_usd == pytest.approx(0.5)
    assert scene.budgets.lasts_s("a") == scene.two.lasts_s("a")
    with pytest.raises(BudgetSpent):
        scene.budgets.reprice("a", 9.0, since=360.0, earlier_usd=0.6)


def test_of_what_was_never_rented_nothing_is_known() -> None:
    scene = Scene()
    assert (scene.budgets.payer("b"), scene.budgets.payments("b")) == ("", [])
    assert scene.budgets.lasts_s("b") == math.inf
    scene.budgets.settle("b", 1.0)
    scene.budgets.reprice("b", 1.0)
    assert scene.one.committed_usd == 1.5


def test_a_price_that_rises_while_it_waits_costs_its_transfer_still() -> None:
    scene = Scene()
    scene.now = 900.0
    scene.budgets.wait("a", 1.0, 0.75, 360.0 - GOING_S, scene.now)
    scene.budgets.reprice("a", 2.0, since=900.0, earlier_usd=0.25)
    assert scene.one.committed_usd == pytest.approx(0.5 + 0.25 + 0.2)


def test_a_price_that_rises_costs_the_next_run_its_own_time_only() -> None:
    scene = Scene()
    scene.now = 900.0
    scene.budgets.hand_over("a", "two", 1.0, 0.75, 1800.0 - GOING_S, scene.now)
    scene.now = 1800.0
    scene.budgets.reprice("a", 2.0, since=1800.0, earlier_usd=0.5)
    assert scene.two.committed_usd == pytest.approx(0.25 + 0.5), "the first one has paid for the transfer"
