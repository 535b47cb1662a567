"""The settings of a fleet file for the market: rate limits, search quota, credit, withdrawn list."""

from __future__ import annotations

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api
from tests.support.looks import until


def test_the_withdrawn_list_answers_old_accounts() -> None:
    fleet = {"market": {"rate_limits": False, "list_v0": True}, "machines": [{"machine_id": 5}]}
    with LocalMarket(fleet) as market, Api(market) as api:
        instance_id = api.rent(5, target_state="stopped")
        listed = api.http.get("/api/v0/instances/", params={"owner": "me"}).json()
        assert (listed["instances_found"], [row["id"] for row in listed["instances"]]) == (1, [instance_id])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "detail", "text"])
def test_calls_that_come_too_soon(form: str) -> None:
    fleet = {"market": {"rate_limit_form": form}, "machines": [{"machine_id": 55, "slots": 9}]}
    with LocalMarket(fleet) as market, Api(market) as api:
        assert api.http.get("/api/v1/instances/").status_code == 200
        early = api.http.get("/api/v1/instances/")
        assert early.status_code == 429
        if form == "json":
            assert early.headers["Retry-After"] == "1"
            assert early.json()["retry_after"] == 1
            assert early.json()["msg"] == "API requests too frequent"
        elif form == "detail":
            assert early.json() == {"detail": "API requests too frequent endpoint threshold=1.0"}
        else:
            assert early.headers["Content-Type"].startswith("text/plain")
            assert early.text == "API requests too frequent: endpoint threshold=1.0"
        assert api.http.get("/api/v0/users/current").status_code == 200, "other endpoints have limits of their own"
        until(lambda: api.http.get("/api/v1/instances/").status_code, lambda status: status == 200)
        calls = {each["endpoint"]: each for each in market.status()["calls"]}
        assert calls["list"]["rate_limited"] >= 1


def test_the_days_search_results_are_used_up() -> None:
    fleet = {"market": {"search_rows_per_day": 3}, "generate": 10, "machines": [{"machine_id": 5, "slots": 2}]}
    with LocalMarket(fleet) as market, Api(market) as api:
        assert len(api.offers(verified={"in": [True, False]}, limit=3)) == 3
        answer = until(lambda: api.http.get("/api/v0/bundles/"), lambda got: "quota" in got.text)
        assert answer.status_code == 429
        assert answer.json()["error"] == "search_quota_exceeded"
        assert 0 < answer.json()["retry_after"] <= 86400


def test_instances_stop_when_the_credit_is_used_up() -> None:
    fleet = {
        "market": {"rate_limits": False, "credit_usd": 0.001},
        "machines": [{"machine_id": 5, "slots": 2, "price_usd_h": 3600}],
    }
    with LocalMarket(fleet) as market, Api(market) as api:
        instance_id = api.rent(5)
        api.becomes(instance_id, intended_status="stopped")
        answer = api.create(api.offer_of(5))
        assert (answer.status_code, answer.json()["error"]) == (400, "insufficient_credit")
