"""Every fault of the catalogue, seen from outside: over HTTP and with OpenSSH's own client.

One market holds one machine for each fault. An instance that only the API has to be wrong about is never started.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.catalogue import catalogue
from tests.support.local import checks_api  # noqa: F401 - each of these adds its checks
from tests.support.local import checks_instance  # noqa: F401
from tests.support.local import checks_money  # noqa: F401
from tests.support.local import checks_server  # noqa: F401
from tests.support.local.api import Api
from tests.support.local.scene import CHECKS
from tests.support.local.scene import PARAMETERS
from tests.support.local.scene import Scene

ON_THE_MARKET = {"account_says", "list_lags"}
"""Faults of the API as a whole, which have a test of their own below."""
NAMES = sorted(CHECKS)


@pytest.fixture(scope="module")
def market() -> Iterator[LocalMarket]:
    machines = [
        {"machine_id": 1000 + number, "host_id": 1000 + number, "faults": [{"name": name, **PARAMETERS[name]}]}
        for number, name in enumerate(NAMES)
    ]
    with LocalMarket({"market": {"rate_limits": False}, "machines": machines}) as market:
        yield market


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


@pytest.fixture
def api(market: LocalMarket) -> Iterator[Api]:
    with Api(market) as api:
        yield api
        ids = [row["id"] for row in api.listed()["instances"]]
        if ids:
            api.http.request("DELETE", "/api/v0/instances/", json={"instance_ids": ids})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_shows_from_outside(name: str, api: Api, key: Path) -> None:
    CHECKS[name](Scene(api, 1000 + NAMES.index(name), key))


def test_every_fault_has_a_test_and_a_description() -> None:
    kinds = catalogue()
    assert set(CHECKS) | ON_THE_MARKET == set(kinds)
    assert len(kinds) >= 40
    assert {kind.layer for kind in kinds.values()} == set(Layer)
    for kind in kinds.values():
        assert "\n" not in kind.description
        assert kind.description.strip() == kind.description != ""


def test_account_says() -> None:
    fault = {"name": "account_says", "field": "credit", "says": '"much"'}
    with LocalMarket({"market": {"rate_limits": False}, "faults": [fault]}) as market, Api(market) as api:
        assert api.http.get("/api/v0/users/current").json()["credit"] == "much"


def test_list_lags() -> None:
    fleet = {"market": {"rate_limits": False}, "machines": [{"machine_id": 7}], "faults": ["list_lags"]}
    with LocalMarket(fleet) as market, Api(market) as api:
        api.rent(7, target_state="stopped")
        assert [api.listed()["total_instances"] for _ in range(3)] == [0, 0, 1]
