"""Hosts for tests, rented on a market in memory: all of one GPU kind, whatever becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.host import HostAdapter
from pytest_vastgpu.servers.host import alike
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.servers.workloads import checked
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.lives import assert_nothing_is_left
from tests.support.memory import Script

ONE = Workload("host", port=0)
HOSTS = [checked(numbered(ONE, number)) for number in range(1, 4)]
BROKEN = Script(refuses_key_s=100_000)
Market = Callable[..., Life]


@pytest.fixture
def market(tmp_path: Path) -> Market:
    """A life for hosts, on a market with machines of these kinds, the best first; a small letter is a broken one."""

    def make(kinds: str, wanted: int) -> Life:
        scripts = [BROKEN if kind.islower() else Script() for kind in kinds]
        life = Life(tmp_path, scripts, any_key(), {"vast_budget": "50"}, adapter=HostAdapter())
        names = {offer.id: kind.upper() for offer, kind in zip(life.provider.offers.values(), kinds, strict=True)}
        search = life.find

        def find(workload: Workload, failed: frozenset[int], gone: frozenset[int]) -> Sequence[Offer]:
            found = search(workload, failed, gone)
            if not found:
                raise NoOffers("no offers: there are none")
            return [replace(offer, gpu_name=names[offer.id], num_gpus=0) for offer in found]

        life.find = find  # type: ignore[method-assign]
        life.provisioner.hosts_wanted = lambda _: wanted
        return life

    return make


def kinds(life: Life) -> str:
    """Of all that was rented, in that order."""
    return "".join(rental.offer.gpu_name for rental in life.rentals)


def rent(life: Life, workload: Workload) -> VastGpuError | None:
    try:
        life.bring_up(workload)
    except VastGpuError as error:
        return error
    return None


def over(life: Life) -> None:
    for rental in life.rentals:
        rental.give_back()
    assert_nothing_is_left(life)


def test_a_kind_with_one_offer_is_not_chosen_for_two_hosts(market: Market) -> None:
    life = market("ABB", 2)
    assert [rent(life, host) for host in HOSTS[:2]] == [None, None]
    assert kinds(life) == "BB"
    over(life)


def test_one_host_takes_the_best(market: Market) -> None:
    life = market("ABB", 1)
    rent(life, HOSTS[0])
    assert kinds(life) == "A"
    over(life)


def test_a_host_that_replaces_another_is_of_its_kind(market: Market) -> None:
    life = market("ABA", 1)
    rent(life, HOSTS[0])
    life.rentals[0].give_back()
    life.provisioner.avoid(life.rentals[0].offer.machine_id)  # it was lost
    rent(life, HOSTS[1])
    assert kinds(life) == "AA"
    over(life)


def test_where_none_of_its_kind_is_left_that_is_told_with_what_to_do(market: Market) -> None:
    life = market("ABC", 2)  # of none are there two
    assert rent(life, HOSTS[0]) is None
    life.provisioner.avoid(life.rentals[0].offer.machine_id)
    error = rent(life, HOSTS[1])
    assert isinstance(error, NoOffers)
    assert str(error) == (
        "all hosts of a run are of one GPU kind, here A, and no other offer of it can be rented; ask for fewer hosts, "
        "or choose a kind of which there is more by --vast-gpu-name"
    )
    assert kinds(life) == "A"
    over(life)


def test_another_kind_is_taken_while_no_host_was_ready(market: Market) -> None:
    life = market("aBB", 1)
    assert rent(life, HOSTS[0]) is None
    assert kinds(life) == "AB"
    over(life)


def test_a_second_attempt_stays_with_the_kind_of_the_others(market: Market) -> None:
    life = market("AaB", 2)
    assert rent(life, HOSTS[0]) is None
    error = rent(life, HOSTS[1])
    assert isinstance(error, ProvisioningFailed)
    assert "all hosts of a run are of one GPU kind, here A" in str(error)
    assert kinds(life) == "AA"
    over(life)


def test_a_later_run_may_have_another_kind(market: Market) -> None:
    life = market("ABB", 1)
    rent(life, HOSTS[0])
    life.rentals[0].give_back()
    life.provisioner.begin_anew()
    life.provisioner.hosts_wanted = lambda _: 2
    rent(life, HOSTS[0])
    assert kinds(life) == "AB"
    over(life)


def test_hosts_without_a_gpu_are_of_any_kind(market: Market) -> None:
    life = market("AB", 2)
    for host in HOSTS[:2]:
        rent(life, replace(host, gpus=0))
    assert kinds(life) == "AB"
    over(life)


def test_only_hosts_are_alike() -> None:
    assert alike(HOSTS[0]) == alike(HOSTS[1]) == ONE
    assert alike(replace(HOSTS[0], gpus=2)) != ONE
    assert alike(Workload("vllm")) is None
