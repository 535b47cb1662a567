"""The client against a server that was written from the API's documentation alone, over real HTTP."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import NoCredit
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import SearchQuotaExceeded
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.model import Offer
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.providers.vast.transport import ApiRequest
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.search import find_offers
from pytest_vastgpu.settings import Strictness
from tests.selection.values import need
from tests.selection.values import workload
from tests.support.vast import search_offers

Faults = dict[int, tuple[str, dict[str, Any]]]

TO_CREATE: list[tuple[str, dict[str, Any], type[MarketError] | None]] = [
    # fault of create, its parameters, what comes of it: None where there must be an instance in the end
    ("offer_taken", {"status": 400}, OfferGone),
    ("offer_taken", {"status": 404}, OfferGone),
    ("offer_taken", {"status": 410}, OfferGone),
    ("no_credit", {}, NoCredit),
    ("spend_rate_limit", {}, NoCredit),
    ("create_success_false", {}, OfferGone),
    ("create_lost", {}, None),
    ("create_dropped", {}, None),
    ("rate_limited", {"endpoint": "create"}, None),
    ("rate_limited_text", {"endpoint": "create"}, None),
    ("rate_limited_detail", {"endpoint": "create"}, None),
    ("truncated", {"endpoint": "create"}, None),
    ("auth_404", {"endpoint": "create"}, BadApiKey),
    ("auth_401", {"endpoint": "create"}, BadApiKey),
    ("not_authorized", {"endpoint": "create"}, NotAuthorized),
]
PASSING = ["server_error", "bad_gateway", "unavailable", "bad_json", "empty_answer", "truncated", "connection_dropped"]
"""Faults that come twice and then pass: a call that may be repeated does not show them."""
SHOWN, DESTROYED, HEALTHY = 2000, 3000, 4000


@pytest.fixture(scope="module")
def market() -> Iterator[LocalMarket]:
    faults: Faults = {1000 + number: (name, given) for number, (name, given, _) in enumerate(TO_CREATE)}
    faults |= {SHOWN + number: (name, {"endpoint": "show"}) for number, name in enumerate(PASSING)}
    faults |= {DESTROYED + number: (name, {"endpoint": "destroy"}) for number, name in enumerate(PASSING)}
    faults[DESTROYED + 100] = ("destroy_lost", {})
    faults[DESTROYED + 101] = ("destroy_fails", {})
    machines: list[dict[str, Any]] = [
        {"machine_id": machine, "host_id": machine, "faults": [{"name": name, **given}]}
        for machine, (name, given) in faults.items()
    ]
    machines.append({"machine_id": HEALTHY, "slots": 64})
    fleet = {"market": {"rate_limits": False, "log_delay_s": 0, "offers_per_search": 1000}, "machines": machines}
    with LocalMarket(fleet) as market:
        yield market


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[LocalMarket], MarketClient]]:
    opened: list[MarketClient] = []

    def connect(market: LocalMarket) -> MarketClient:
        throttle = Throttle(tmp_path, account_identity(market.url, market.api_key), wait=lambda _: None)
        opened.append(MarketClient(market.url, market.api_key, throttle, wait=lambda _: None))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


@pytest.fixture
def client(market: LocalMarket, connect: Callable[[LocalMarket], MarketClient]) -> Iterator[MarketClient]:
    client = connect(market)
    yield client
    for status in client.list_instances():
        client.destroy(status.id)


def offer_of(client: MarketClient, machine_id: int) -> Offer:
    found = search_offers(client, {"machine_id": {"eq": machine_id}})
    return next(offer for offer in found if offer.machine_id == machine_id)


def request(label: str) -> CreateRequest:
    return CreateRequest(image="ubuntu:22.04", disk_gb=16, label=label, ports=(8000,))


def alive(market: LocalMarket) -> list[Any]:
    instances: list[Any] = market.status()["alive"]
    return instances


def test_an_offer_says_how_fast_its_gpus_are(client: MarketClient) -> None:
    offer = offer_of(client, HEALTHY)
    assert (offer.gpu_memory_gb_s, offer.tflops, offer.pcie_lanes) == (880.0, 82.0, 16)


def test_a_tiny_disk_is_rounded_up_to_the_least_there_is(client: MarketClient) -> None:
    offer = offer_of(client, HEALTHY)
    client.destroy(client.create(offer.id, replace(request("tiny"), disk_gb=1.0)))


def test_a_rental_from_search_to_gone(client: MarketClient, market: LocalMarket) -> None:
    ranked = find_offers(client.search, need(strictness=Strictness.STRICT))
    offer = next(one.offer for one in ranked if one.offer.machine_id == HEALTHY)
    instance_id = client.create(offer.id, request("whole-life"))
    status = client.show(instance_id)
    assert status is not None
    assert (status.id, status.label, status.machine_id) == (instance_id, "whole-life", offer.machine_id)
    assert status.price_usd_h == pytest.approx(offer.price_usd_h, rel=0.01)
    assert [one.id for one in client.list_instances("whole-life")] == [instance_id]
    assert client.list_instances("somebody-else") == []
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0pTn3sGXc8vDfzFo2qQ6yD3y4QxqYH8HqWk0f0aaaa test"
    client.attach_key(instance_id, key)
    client.attach_key(instance_id, key)
    assert isinstance(client.logs(instance_id, tail=10), str)
    client.destroy(instance_id)
    client.destroy(instance_id)
    assert client.show(instance_id) is None
    assert alive(market) == []


@pytest.mark.slow
def test_the_list_is_read_to_its_last_page(client: MarketClient) -> None:
    offer = offer_of(client, HEALTHY)
    ids = []
    for number in range(28):  # a page holds 25
        ids.append(client.create(offer.id, request(f"page-{number}")))
        offer = offer_of(client, HEALTHY)
    assert sorted(status.id for status in client.list_instances()) == sorted(ids)


def test_the_account(client: MarketClient) -> None:
    assert client.account().credit_usd > 0


@pytest.mark.parametrize(
    ("number", "error"),
    [(number, error) for number, (_, _, error) in enumerate(TO_CREATE)],
    ids=[f"{name}{given.get('status', '')}" for name, given, _ in TO_CREATE],
)
def test_faults_of_create(
    client: MarketClient, market: LocalMarket, number: int, error: type[MarketError] | None
) -> None:
    offer = offer_of(client, 1000 + number)
    if error is None:
        instance_id = client.create(offer.id, request(f"fault-{number}"))
        assert [one["id"] for one in alive(market)] == [instance_id]
    else:
        with pytest.raises(error):
            client.create(offer.id, request(f"fault-{number}"))
        assert alive(market) == []


@pytest.mark.parametrize("name", PASSING)
def test_faults_that_pass_do_not_show(client: MarketClient, market: LocalMarket, name: str) -> None:
    for machine_id in (SHOWN + PASSING.index(name), DESTROYED + PASSING.index(name)):
        instance_id = client.create(offer_of(client, machine_id).id, request(f"passing-{machine_id}"))
        status = client.show(instance_id)
        assert status is not None
        assert status.id == instance_id
        client.destroy(instance_id)
    assert alive(market) == []


@pytest.mark.parametrize("machine_id", [DESTROYED + 100, DESTROYED + 101], ids=["destroy_lost", "destroy_fails"])
def test_faults_of_destroy(client: MarketClient, market: LocalMarket, machine_id: int) -> None:
    client.destroy(client.create(offer_of(client, machine_id).id, request(f"destroy-{machine_id}")))
    assert alive(market) == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [("search_quota", SearchQuotaExceeded), ("auth_404", BadApiKey)],
)
def test_faults_of_the_search(
    connect: Callable[[LocalMarket], MarketClient], fault: str, error: type[MarketError]
) -> None:
    fleet = {"market": {"rate_limits": False}, "machines": [{"machine_id": 1}], "faults": [fault]}
    with LocalMarket(fleet) as market, pytest.raises(error):
        find_offers(connect(market).search, need())


def test_this_machine_is_admitted_at_every_level(connect: Callable[[LocalMarket], MarketClient]) -> None:
    with LocalMarket(rate_limits=False) as market:
        client = connect(market)
        for level in Strictness:
            (ranked, *_) = find_offers(client.search, need(workload(gpus=0), level))
            assert not ranked.offer.simulated
        if shutil.which("nvidia-smi") is None:
            with pytest.raises(NoOffers, match="nothing on this market has a GPU, and the workload needs 1"):
                find_offers(client.search, need())


def test_the_market_s_filters_and_ours_agree(connect: Callable[[LocalMarket], MarketClient]) -> None:
    machines: list[dict[str, Any]] = [
        {"machine_id": 1},
        {"machine_id": 2, "gpu_name": "H100 SXM", "gpu_ram_mb": 81559, "price_usd_h": 0.9},
        {"machine_id": 3, "reliability": 0.97},
        {"machine_id": 4, "direct_port_count": 3},
        {"machine_id": 5, "inet_down_mbps": 50},
        {"machine_id": 6, "geolocation": "China, CN"},
        {"machine_id": 7, "price_usd_h": 3},
        {"machine_id": 8, "disk_space_gb": 10},
        {"machine_id": 9, "cuda_max_good": 11.8},
        {"machine_id": 10, "duration_s": 1800},
        {"machine_id": 11, "verification": "unverified"},
        {"machine_id": 12, "gpu_ram_mb": 12000},
        {"machine_id": 13, "compute_cap": 7.5},
        {"machine_id": 14, "inet_down_usd_gb": 0.05},
    ]
    wanted = need(workload(gpu_ram_gb=20, cuda=12.4, compute_cap=8.0, image_gb=10))
    with LocalMarket({"market": {"rate_limits": False}, "machines": machines}) as market:
        client = connect(market)
        assert {ranked.offer.machine_id for ranked in find_offers(client.search, wanted)} == {1, 2}
        everything = search_offers(client, {"allocated_storage": wanted.workload.disk_gb, "limit": 64, "verified": {}})
        dropped = {one.offer.machine_id: one.failed[0].name for one in admit(everything, wanted).dropped}
    assert dropped == {
        3: "reliability",
        4: "direct_ports",
        5: "download",
        6: "country",
        7: "price",
        8: "disk_gb",
        9: "cuda",
        10: "duration",
        11: "verified",
        12: "gpu_ram_gb",
        13: "compute_cap",
        14: "price",
    }


@pytest.mark.slow
def test_the_throttle_keeps_the_market_s_limits(tmp_path: Path) -> None:
    seen: list[ApiRequest] = []
    with LocalMarket({"machines": [{"machine_id": 1}]}, rate_limits=True) as market:
        # A little longer than it asks for: on a busy machine the first request may be late by more than the margin.
        throttle = Throttle(
            tmp_path, account_identity(market.url, market.api_key), wait=lambda seconds: time.sleep(seconds + 0.5)
        )
        with MarketClient(market.url, market.api_key, throttle, observer=seen.append) as client:
            client.list_instances()
            client.list_instances()
    assert [call.status for call in seen] == [200, 200]


@pytest.mark.slow
def test_without_the_throttle_the_client_waits_when_it_is_told_to(tmp_path: Path) -> None:
    seen: list[ApiRequest] = []
    with LocalMarket({"machines": [{"machine_id": 1}]}, rate_limits=True) as market:
        throttle = Throttle(tmp_path, "t", wait=lambda _: None)
        with MarketClient(market.url, market.api_key, throttle, observer=seen.append) as client:
            client.list_instances()
            client.list_instances()
    assert [call.status for call in seen] == [200, 429, 200]


@pytest.mark.slow
@pytest.mark.parametrize(("limits", "calls", "refused"), [(False, 9, 0), (True, 3, 1)])
def test_a_market_s_limits_are_kept_once_it_has_set_one(tmp_path: Path, limits: bool, calls: int, refused: int) -> None:
    with LocalMarket({"machines": [{"machine_id": 1}]}, rate_limits=limits) as market:
        with open_provider(market.url, market.api_key, tmp_path) as provider:
            for _ in range(calls):
                provider.list_instances()
        counted = {call["endpoint"]: call for call in market.status()["calls"]}["list"]
    assert counted["count"] - counted["rate_limited"] == calls
    assert counted["rate_limited"] <= refused
