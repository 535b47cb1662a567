from __future__ import annotations

from typing import Any

import pytest

from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.search_body import search_body
from pytest_vastgpu.selection.admission import search_query
from pytest_vastgpu.selection.admission import wide_query
from pytest_vastgpu.selection.admission import widest_query
from pytest_vastgpu.selection.search import find_offers
from tests.providers.vast.scripted import ScriptedServer
from tests.selection.values import need
from tests.selection.values import workload

NEED = need(workload(gpu_ram_gb=20, image_gb=5))


def row(**changes: Any) -> dict[str, Any]:
    """An offer in the market's own words and units."""
    return {
        "id": 1,
        "machine_id": 100,
        "host_id": 10,
        "gpu_name": "RTX 4090",
        "num_gpus": 1,
        "gpu_ram": 24564,
        "compute_cap": 890,
        "cuda_max_good": 12.4,
        "disk_space": 200.5,
        "inet_down": 800,
        "direct_port_count": 100,
        "reliability2": 0.999,
        "verification": "verified",
        "rentable": True,
        "rented": False,
        "geolocation": "Sweden, SE",
        "duration": 864000,
        "dph_total": 0.4,
        "storage_cost": 0.1,
        "inet_down_cost": 0.0,
        "inet_up_cost": 0.0,
        **changes,
    }


def bodies(server: ScriptedServer) -> list[Any]:
    return [asked.body for asked in server.asked]


def test_one_search_gives_admitted_offers_best_first(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(
        {
            "offers": [
                row(id=1, machine_id=1, verification="unverified"),
                row(id=2, machine_id=2),
                row(id=3, dph_total=0.3),
            ]
        }
    )
    assert [ranked.offer.id for ranked in find_offers(client.search, NEED)] == [3, 2]
    assert bodies(server) == [search_body(search_query(NEED))]


def test_nothing_found_is_explained_by_a_wider_search(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"offers": []}, {"offers": [row(dph_total=1.2)]})
    with pytest.raises(NoOffers, match=r"--vast-max-price=1\.20 would admit machine 100 \(RTX 4090\) at 1\.20 USD/h"):
        find_offers(client.search, NEED)
    assert bodies(server) == [search_body(search_query(NEED)), search_body(wide_query(NEED))]


def test_what_the_first_search_showed_is_not_forgotten(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"offers": [row(id=1, geolocation="China, CN")]}, {"offers": [row(id=2, verification="")]})
    with pytest.raises(NoOffers, match="of 2 offers"):
        find_offers(client.search, NEED)


def test_a_market_without_any_gpu_is_told_as_such(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"offers": []}, {"offers": []}, {"offers": [row(num_gpus=0, gpu_name=None, gpu_ram=None)]})
    with pytest.raises(NoOffers, match="nothing on this market has a GPU, and the workload needs 1"):
        find_offers(client.search, NEED)
    assert bodies(server)[-1] == search_body(widest_query(NEED))


def test_an_empty_market(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(*[{"offers": []}] * 3)
    with pytest.raises(NoOffers, match="nothing to rent now"):
        find_offers(client.search, NEED)


def test_a_filter_that_hid_a_good_offer_does_not_cost_it(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"offers": []}, {"offers": [row()]})
    assert [ranked.offer.id for ranked in find_offers(client.search, NEED)] == [1]
