"""Which records a run reads, and where it writes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu import command
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.records import OWN_FILE
from pytest_vastgpu.reputation.records import Records
from pytest_vastgpu.settings import DEFAULT_URL
from tests.support.factories import make_offer

WORKLOAD = command("true")
LOCAL = "http://127.0.0.1:8000"


def attempt(failure: FailureClass | None = FailureClass.INFRA_FATAL, label: str = "a", **offer: Any) -> Attempt:
    verdict = None if failure is None else Verdict(failure, "nvml")
    return Attempt(1, label, make_offer(**offer), 5, verdict)


class Places:
    """A user's cache, and the directories of runs."""

    def __init__(self, directory: Path) -> None:
        self.cache = directory / "cache" / "hosts.yaml"
        self._directory = directory
        self.told: list[str] = []

    def run(self, name: str, url: str) -> Records:
        (self._directory / name).mkdir(exist_ok=True)
        return Records(url, self.cache, self._directory / name, self.told.append)

    def own(self, name: str) -> Path:
        return self._directory / name / OWN_FILE

    def markets(self) -> set[str]:
        return set(HostCache(self.cache).contents().markets)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.mark.parametrize(("url", "market"), [(DEFAULT_URL, "vast.ai"), (f"{LOCAL}/", LOCAL)])
def test_real_machines_are_remembered_by_their_market(places: Places, url: str, market: str) -> None:
    places.run("one", url).record(attempt(), WORKLOAD, "one")
    assert places.markets() == {market}
    assert not places.own("one").exists()
    assert places.run("two", url).read().machines[42].banned_until > 0
    other = LOCAL if market == "vast.ai" else DEFAULT_URL
    assert places.run("three", other).read().machines == {}


@pytest.mark.parametrize("url", [DEFAULT_URL, LOCAL, ""])
def test_what_is_only_played_stays_with_the_run(places: Places, url: str) -> None:
    run = places.run("one", url)
    run.record(attempt(simulated=bool(url)), WORKLOAD, "one")
    assert run.read().machines[42].banned_until > 0
    assert places.own("one").exists()
    assert not places.cache.exists()
    assert places.run("two", url).read().machines == {}


def test_a_market_that_ends_with_the_run_has_nothing_to_do_with_the_users_cache(places: Places) -> None:
    HostCache(places.cache).ban(42, until=math.inf, since=1.0)
    run = places.run("one", "")
    assert run.read().machines == {}
    places.cache.write_bytes(b"no cache")
    assert places.run("two", "").read().machines == {}
    assert places.cache.read_bytes() == b"no cache"


def test_what_a_person_says_holds_for_simulated_machines_of_that_market_too(places: Places) -> None:
    run = places.run("one", LOCAL)
    run.record(attempt(simulated=True), WORKLOAD, "one")
    HostCache(places.cache, market=LOCAL).allow(42)
    assert run.read().machines[42].banned_until == 0
    assert run.read().machines[42].infra_failures > 0


def test_our_own_fault_is_nobodys_record(places: Places) -> None:
    run = places.run("one", LOCAL)
    run.record(attempt(FailureClass.OWN_FAULT), WORKLOAD, "one")
    assert run.read().machines == {}


def test_whatever_an_offer_says_is_readable_afterwards(places: Places) -> None:
    run = places.run("one", LOCAL)
    run.record(attempt(host_id=-3, gpu_name="H\ud800\n---\n...\x00\x1b"), WORKLOAD, "one")
    run.record(attempt(None, "b", machine_id=43), WORKLOAD, "one")
    assert {42, 43} == set(places.run("two", LOCAL).read().machines)
    assert places.told == []


def test_what_cannot_be_written_in_the_middle_of_a_run_is_told_and_ends_nothing(places: Places) -> None:
    run = places.run("one", LOCAL)
    places.cache.mkdir()
    run.record(attempt(), WORKLOAD, "one")
    assert "how machine 42 did is not recorded: " in places.told[0]
    assert "--vast-host-cache" in places.told[0]


def test_a_cache_that_cannot_be_used_is_told_at_the_start(places: Places, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    for url in (DEFAULT_URL, LOCAL):
        with pytest.raises(HostCacheError, match="--vast-host-cache"):
            places.run("one", url)
    assert places.run("one", "").read().machines == {}, "it is not needed"
    with pytest.raises(ConfigurationError, match="VAST_URL: 'market' is not the URL of a market"):
        places.run("one", "market")
