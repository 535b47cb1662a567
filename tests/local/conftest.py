"""The market that the API tests share, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api

FLEET: dict[str, Any] = {
    "market": {"rate_limits": False, "log_delay_s": 0.1, "credit_usd": 1000},
    "this_machine": True,
    "machines": [
        {"machine_id": 100, "slots": 50, "gpu_name": "RTX 4090", "storage_usd_gb_month": 0.72, "price_usd_h": 0.36},
        {"machine_id": 200, "gpu_name": "H100 SXM"},
        {"machine_id": 300, "gpu_name": "H200", "rentable": False},
    ],
}


@pytest.fixture(scope="session")
def shared_market() -> Iterator[LocalMarket]:
    with LocalMarket(FLEET, images={"me/server*": "echo serving"}) as market:
        yield market


@pytest.fixture
def market(shared_market: LocalMarket) -> LocalMarket:
    return shared_market


@pytest.fixture
def api(market: LocalMarket) -> Iterator[Api]:
    """The API with the account's key. Instances and SSH keys of a test are removed after it."""
    with Api(market) as api:
        yield api
        for row in api.listed()["instances"]:
            api.destroy(row["id"])
        for key in api.http.get("/api/v0/ssh").json():
            api.http.delete(f"/api/v0/ssh/{key['id']}/")
