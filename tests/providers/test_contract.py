"""What every provider must do: the local market over HTTP, and the one in memory that other tests use."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.selection.offer_query import OfferQuery
from tests.support.factories import make_offer
from tests.support.limits import UNSPACED
from tests.support.memory import MemoryProvider
from tests.support.memory import Script
from tests.support.memory import fleet
from tests.support.virtual import VirtualClock

ANY = OfferQuery((), 10, 64)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE7x5jWm0bCq3bZ0mWm7X0d3s2q1b9Zb2b8m2m1b0b9b someone"
WITHIN_S = 20.0


@dataclass
class Case:
    provider: Provider
    sleep: Callable[[float], None]

    def until(self, holds: Callable[[], bool]) -> None:
        ends = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < ends, "it never came"
            self.sleep(0.05)


@pytest.fixture(params=["vast", "memory"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    if request.param == "memory":
        clock = VirtualClock()
        offers = fleet(make_offer(), 3)
        scripts = {offer.machine_id: Script(boot_s=0.2) for offer in offers}
        yield Case(MemoryProvider(clock, offers, scripts), clock.sleep)
        return
    machines = [
        {"machine_id": number, "price_usd_h": 0.1 + number / 1000, "stages": {"loading_s": 0.1}} for number in (1, 2, 3)
    ]
    with (
        LocalMarket({"market": {"rate_limits": False}, "machines": machines}) as market,
        open_provider(market.url, market.api_key, tmp_path, timeouts=UNSPACED) as provider,
    ):
        yield Case(provider, time.sleep)
        for status in provider.list_instances():
            provider.destroy(status.id)


def request(label: str) -> CreateRequest:
    return CreateRequest("any/image", 10, label)


def test_offers_come_cheapest_first(case: Case) -> None:
    found = case.provider.search(ANY)
    assert [offer.machine_id for offer in found] == [1, 2, 3]
    assert len(case.provider.search(OfferQuery((), 10, 2))) == 2
    assert case.provider.account().credit_usd > 0


def test_an_instance_comes_runs_and_goes(case: Case) -> None:
    provider = case.provider
    offer = provider.search(ANY)[0]
    instance_id = provider.create(offer.id, request("one"))
    provider.attach_key(instance_id, KEY)
    provider.attach_key(instance_id, KEY)
    shown = provider.show(instance_id)
    assert shown is not None
    assert (shown.id, shown.label, shown.machine_id) == (instance_id, "one", 1)
    case.until(lambda: any(status.phase is Phase.RUNNING for status in provider.list_instances("one")))
    (listed,) = provider.list_instances()
    assert listed.ssh
    assert listed.price_usd_h > 0
    assert isinstance(provider.logs(instance_id, 10), str)
    provider.destroy(instance_id)
    case.until(lambda: provider.show(instance_id) is None)
    case.until(lambda: provider.list_instances() == [])
    provider.destroy(instance_id)


def test_an_attached_key_stays_in_the_account_until_it_is_taken_out(case: Case) -> None:
    provider = case.provider
    provider.attach_key(provider.create(provider.search(ANY)[0].id, request("one")), KEY)
    (record,) = [each for each in provider.account_keys() if each.public_line == KEY]
    provider.delete_account_key(record.id)
    provider.delete_account_key(record.id)
    assert list(provider.account_keys()) == []


def test_only_the_label_that_was_asked_for_is_listed(case: Case) -> None:
    for offer, label in zip(case.provider.search(ANY), ("one", "two"), strict=False):
        case.provider.create(offer.id, request(label))
    assert [status.label for status in case.provider.list_instances("two")] == ["two"]
    assert list(case.provider.list_instances("three")) == []
    assert {status.label for status in case.provider.list_instances()} == {"one", "two"}


def test_an_offer_is_rented_once(case: Case) -> None:
    offer = case.provider.search(ANY)[0]
    case.provider.create(offer.id, request("one"))
    with pytest.raises(OfferGone):
        case.provider.create(offer.id, request("two"))
    with pytest.raises(OfferGone):
        case.provider.create(99, request("three"))
    assert [status.label for status in case.provider.list_instances()] == ["one"]


def test_what_never_was_is_gone(case: Case) -> None:
    assert case.provider.show(999_999) is None
    case.provider.destroy(999_999)
