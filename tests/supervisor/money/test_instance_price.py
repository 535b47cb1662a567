"""The price of an instance from one look to the next."""

from __future__ import annotations

import pytest

from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.reporting.costs import EarlierPrice
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.money.instance_price import InstancePrice
from tests.support.factories import make_offer
from tests.support.vast import make_status

OFFER = make_offer(price_usd_h=0.36, inet_down_usd_gb=0.0)


class Scene:
    """A tag with its clock and its budget, of an instance that was created at 0."""

    def __init__(self, limit_usd: float = 5.0) -> None:
        self.now = 0.0
        self.budget = Budget(limit_usd, 3600.0, lambda: self.now)
        self.budget.reserve("a", OFFER.price_usd_h, 0.0)
        self.tag = InstancePrice("a", OFFER, Workload("vllm"), 1.0, self.budget, lambda: self.now)

    def bill(self) -> CostRecord:
        return CostRecord("a", self.tag.usd_h, 0.0, 0.0, self.now, earlier=self.tag.earlier)

    def look(self, now: float, usd_h: float, incredible: str = "") -> str:
        self.now = now
        return self.tag.look(make_status(price_usd_h=usd_h, incredible=incredible), self.bill)


def test_the_first_price_counts_from_the_start() -> None:
    scene = Scene()
    assert scene.look(10, 0) == ""
    assert scene.tag.usd_h == 0.36
    assert scene.look(20, 0.72) == "costs 0.7200 USD/h, its offer said 0.3600 USD/h"
    scene.now = 100
    assert scene.bill().cost_usd == pytest.approx(0.02)


def test_a_raise_counts_from_the_look_before() -> None:
    scene = Scene()
    assert [scene.look(10, 0.36), scene.look(60, 0.36), scene.look(90, 0)] == ["", "", ""]
    assert scene.look(120, 0.72) == "costs 0.7200 USD/h, it was 0.3600 USD/h"
    assert scene.tag.earlier == (EarlierPrice(0.36, 60.0),), "a look that showed no price says nothing of it"
    scene.now = 160
    assert scene.bill().cost_usd == pytest.approx(0.006 + 0.02)
    assert scene.look(170, 0.36) == "", "of several prices the dearest counts"
    assert scene.tag.usd_h == 0.72
    assert scene.tag.too_dear is None


@pytest.mark.parametrize(("limit_usd", "reason"), [(50.0, "price_above_limit"), (0.8, "price_above_budget")])
def test_more_than_may_be_paid_is_told_once(limit_usd: float, reason: str) -> None:
    scene = Scene(limit_usd)
    scene.look(10, 0.36)
    dear = 1.1 if limit_usd > 1 else 0.9
    assert scene.look(60, dear).startswith("no new test gets it: ")
    assert scene.look(120, dear + 1) == ""
    assert scene.tag.too_dear is not None
    assert scene.tag.too_dear.reason == reason


def test_a_price_that_cannot_be_true_is_not_taken() -> None:
    scene = Scene()
    scene.look(10, 0.36)
    told = scene.look(60, 0, "dph_total is -1 USD/h, below 0")
    assert told == (
        "no new test gets it: the market shows a price for it that cannot be true: dph_total is -1 USD/h, below 0"
    )
    assert scene.tag.usd_h == 0.36
