"""Bills, prepayments, and the status of the market."""

from __future__ import annotations

import httpx
import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.market.prepay import prepayment
from tests.support.local.api import Api


def test_the_bill_follows_the_documented_rules(market: LocalMarket, api: Api) -> None:
    instance_id = api.rent(100, disk=100, label="billed")
    api.becomes(instance_id, actual_status="running")
    rate = api.http.get("/api/v0/users/spend-rate").json()
    assert rate["gpu_cost_per_hour"] == pytest.approx(0.36)
    assert rate["container_storage_cost_per_hour"] == pytest.approx(0.1)
    api.destroy(instance_id)
    ended = next(each for each in market.status()["ended"] if each["id"] == instance_id)
    cost, states = ended["cost"], ended["states"]
    ran = next(state["at"] for state in states if state["state"] == "running")
    assert cost["gpu_usd"] == pytest.approx((ended["ended_at"] - ran) * 0.36 / 3600)
    assert cost["storage_usd"] == pytest.approx((ended["ended_at"] - ended["created_at"]) * 0.1 / 3600)
    assert market.status()["rents_per_label"]["billed"] == 1


def test_a_bid_is_what_it_costs(api: Api) -> None:
    instance_id = api.rent_stopped(price=0.2)
    row = api.becomes(instance_id)
    assert (row["is_bid"], row["dph_base"]) == (True, 0.2)
    assert api.http.put(f"/api/v0/instances/bid_price/{instance_id}/", json={"price": 0.25}).json()["success"]
    assert api.becomes(instance_id)["dph_base"] == 0.25


def test_the_market_counts_calls(market: LocalMarket, api: Api) -> None:
    def counted() -> int:
        return sum(
            each["count"]
            for each in market.status()["calls"]
            if (each["endpoint"], each["key"]) == ("spend_rate", "account")
        )

    before = counted()
    api.http.get("/api/v0/users/spend-rate/")
    api.http.get("/api/v0/users/spend-rate")
    assert counted() == before + 2


def test_what_is_paid_in_is_set_aside_lowers_the_price_and_comes_back(api: Api) -> None:
    def credit() -> float:
        return float(api.http.get("/api/v0/users/current").json()["credit"])

    def pay(amount: object) -> httpx.Response:
        return api.http.put(f"/api/v0/instances/prepay/{instance_id}/", json={"amount": amount})

    instance_id = api.rent_stopped(200)
    row = api.becomes(instance_id)
    per_month = row["dph_total"] * 720
    before = credit()
    few = pay(1.0).json()
    assert few == {"success": True, "timescale": pytest.approx(1 / per_month), "discount_rate": 0.0}
    assert credit() == pytest.approx(before - 1)
    assert pay(1.5 * per_month).json()["discount_rate"] == 0.2
    assert api.becomes(instance_id)["dph_base"] == pytest.approx(0.8 * row["dph_base"])
    assert credit() == pytest.approx(before - 1 - 1.5 * per_month)
    for nothing in (0, -1, "much", None, True):
        assert pay(nothing).json()["error"] == "invalid_args"
    assert pay(10_000).json()["error"] == "insufficient_credit"
    api.destroy(instance_id)
    assert credit() == pytest.approx(before, abs=0.01)


def test_the_accounts_say_who_made_what_and_how_it_was_asked() -> None:
    machine = {"machine_id": 7, "slots": 2, "inet_down_usd_gb": 0.02}
    with (
        LocalMarket({"market": {"rate_limits": False, "image_gb": 5}, "machines": [machine]}) as market,
        Api(market) as api,
    ):
        api.http.headers["User-Agent"] = "somebody/1.0"
        first, second = api.rent(7, label="pair"), api.rent(7, label="pair")
        api.becomes(first, actual_status="running")
        api.becomes(second, actual_status="running")
        api.destroy(first)
        status = market.status()
    [alive], [ended] = status["alive"], status["ended"]
    assert (alive["id"], alive["made_by"], alive["label"], alive["image"]) == (second, "somebody/1.0", "pair", "any")
    assert status["rents_per_label"] == {"pair": 2}
    for account in (alive, ended):
        cost = account["cost"]
        assert cost["transfer_usd"] == pytest.approx(5 * 0.02)
        assert cost["total_usd"] == pytest.approx(cost["gpu_usd"] + cost["storage_usd"] + cost["transfer_usd"])
        assert 0 < cost["gpu_seconds"] < cost["storage_seconds"]
    costs = [account["cost"]["total_usd"] for account in (alive, ended)]
    assert min(costs) > 0
    assert status["spent_usd"] == pytest.approx(sum(costs), rel=1e-12)
    calls = {each["endpoint"]: each for each in status["calls"]}
    assert (calls["create"]["count"], calls["create"]["key"], calls["create"]["rate_limited"]) == (2, "account", 0)
    assert 0 < calls["create"]["spacing_s"] < 60
    assert calls["destroy"]["spacing_s"] is None


@pytest.mark.parametrize(
    ("amount", "discount", "months"),
    [(10.0, 0.0, 0.1), (100.0, 0.2, 1.25), (300.0, 0.3, 3 / 0.7), (0.0, 0.0, 0.0)],
)
def test_the_discount_grows_with_the_months_that_are_paid(amount: float, discount: float, months: float) -> None:
    bought = prepayment(amount, 100 / 720, 0.0)
    assert bought.discount == discount
    assert bought.months == pytest.approx(months)
    assert prepayment(50.0, 0.0, 0.0).months == 0
