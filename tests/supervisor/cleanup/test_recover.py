"""What is done about a run whose owner is dead: as a pure decision, and on a real market."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.supervisor.cleanup import recover as recovering
from pytest_vastgpu.supervisor.cleanup.recover import RecoveryPlan
from pytest_vastgpu.supervisor.cleanup.recover import due
from pytest_vastgpu.supervisor.cleanup.recover import recover
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from tests.support.looks import alive
from tests.support.vast import make_status
from tests.support.vast import search_offers
from tests.support.virtual import VirtualClock

RUN = "abcd1234"
NOW = 1_800_000_000.0


def label(number: int, run: str = RUN) -> str:
    return make_label(run, number, NOW + 3600)


def status(instance_id: int, text: str) -> InstanceStatus:
    return make_status(
        id=instance_id, label=text, machine_id=7, host_id=7, actual_status="running", dph_total=0.2, start_date=NOW
    )


ONE, TWO = LedgerEntry(label(1), 11), LedgerEntry(label(2))
HERS = status(99, label(1, "0ddba11"))
FOREIGN = status(98, "training")

DECISIONS: dict[str, tuple[tuple[LedgerEntry, ...], tuple[InstanceStatus, ...] | None, RecoveryPlan]] = {
    "nothing": ((), (), RecoveryPlan()),
    "listed and in the ledger": ((ONE,), (status(11, label(1)), HERS, FOREIGN), RecoveryPlan(destroy=(ONE,))),
    "in the ledger only: lists lag": ((ONE,), (HERS,), RecoveryPlan(destroy=(ONE,))),
    "the market cannot be asked": ((ONE, TWO), None, RecoveryPlan(destroy=(ONE,), look_for=(TWO,))),
    "never answered, but there": ((TWO,), (status(12, label(2)),), RecoveryPlan(destroy=(LedgerEntry(label(2), 12),))),
    "never answered, not there yet": ((TWO,), (), RecoveryPlan(look_for=(TWO,))),
    "never in this ledger": ((), (status(13, label(3)),), RecoveryPlan(destroy=(LedgerEntry(label(3), 13),))),
    "gone by the ledger, but not by the market": (
        (replace(ONE, gone=True),),
        (status(11, label(1)),),
        RecoveryPlan(destroy=(ONE,)),
    ),
    "gone": ((replace(ONE, gone=True),), (), RecoveryPlan()),
    "kept": ((replace(ONE, kept_until=NOW + 1),), (status(11, label(1)),), RecoveryPlan()),
    "no longer kept": ((replace(ONE, kept_until=NOW),), (status(11, label(1)),), RecoveryPlan(destroy=(ONE,))),
    "given another label": ((ONE,), (status(11, "mine now"),), RecoveryPlan(disowned=(ONE,))),
    "given to another run": ((ONE,), (status(11, label(1, "0ddba11")),), RecoveryPlan(disowned=(ONE,))),
    "others only": ((), (HERS, FOREIGN), RecoveryPlan()),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_what_is_due(name: str) -> None:
    entries, listed, expected = DECISIONS[name]
    record = Record(entries={entry.label: entry for entry in entries})
    assert due(RUN, record, listed, NOW) == replace(
        expected, destroy=tuple(LedgerEntry(entry.label, entry.instance_id) for entry in expected.destroy)
    )


def test_an_embedded_market_has_ended_with_its_run() -> None:
    assert due(RUN, Record(embedded=True, entries={ONE.label: ONE}), (), NOW) == RecoveryPlan()


# --- on a market ------------------------------------------------------------------------------------------------------


QUICK = Timeouts(recovery_pauses_s=(0.02,), destroy_pause_s=0.02, market_pause_s=0.02, rate_limits=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / RUN


@pytest.fixture(scope="module")
def healthy() -> Iterator[LocalMarket]:
    with LocalMarket({"market": {"rate_limits": False}, "machines": [{"count": 4}]}) as market:
        yield market
        assert market.status()["alive"] == []


@pytest.fixture
def client(healthy: LocalMarket) -> Iterator[Provider]:
    with open_provider(healthy.url, healthy.api_key, timeouts=QUICK) as client:
        yield client


def rent(client: Provider, text: str) -> int:
    offers = search_offers(client, {"rentable": {"eq": True}, "rented": {"eq": False}})
    return client.create(offers[0].id, CreateRequest("image", 10, text))


def test_it_destroys_what_is_the_runs_and_nothing_else(directory: Path, healthy: LocalMarket, client: Provider) -> None:
    ledger = Ledger(directory)
    ledger.write(label(1), "intended")
    ledger.write(label(1), "created", instance_id=(one := rent(client, label(1))))
    ledger.write(label(2), "intended")
    two, hers = rent(client, label(2)), rent(client, label(1, "0ddba11"))
    ledger.close()
    try:
        assert sorted(recover(directory, client, by="test", timeouts=QUICK).destroyed) == sorted([one, two])
        assert alive(healthy) == {hers}
        assert all(entry.gone for entry in read_ledger(directory / FILE).entries.values())
        assert recover(directory, client, by="test", timeouts=QUICK).destroyed == [], "repeating it is safe"
    finally:
        client.destroy(hers)


@pytest.mark.slow
def test_two_at_once_are_no_worse_than_one(directory: Path, healthy: LocalMarket, client: Provider) -> None:
    ledger = Ledger(directory)
    for number in (1, 2):
        ledger.write(label(number), "created", instance_id=rent(client, label(number)))
    ledger.close()
    threads = [threading.Thread(target=recover, args=(directory, client), kwargs={"by": str(n)}) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alive(healthy) == set()
    assert all(entry.gone for entry in read_ledger(directory / FILE).entries.values())


def test_a_create_that_is_carried_out_after_its_owner_died_is_found(
    directory: Path, healthy: LocalMarket, client: Provider
) -> None:
    ledger = Ledger(directory)
    ledger.write(label(1), "intended")
    ledger.close()
    looks = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == recovering.LOOKS + 1:
            rent(client, label(1))

    assert len(recover(directory, client, by="test", timeouts=QUICK, wait=wait).destroyed) == 1
    assert alive(healthy) == set()


def test_a_create_that_never_comes_is_waited_for_a_minute(directory: Path, client: Provider) -> None:
    ledger = Ledger(directory)
    ledger.write(label(1), "intended")
    ledger.close()
    clock = VirtualClock(time.time())
    recover(directory, client, by="test", wait=clock.sleep, clock=clock)
    assert 60 <= clock.now < 80
    assert read_ledger(directory / FILE).entries[label(1)].gone


def test_an_old_intent_is_looked_for_a_few_times_only(directory: Path, client: Provider) -> None:
    directory.mkdir()
    row = f'{{"time": {time.time() - 3600}, "label": "{label(1)}", "step": "intended"}}\n'
    directory.joinpath(FILE).write_text(row)
    waits: list[float] = []
    recover(directory, client, by="test", timeouts=QUICK, wait=waits.append)
    assert len(waits) == recovering.LOOKS - 1


def test_what_somebody_has_given_another_label_is_left_alone(
    directory: Path, healthy: LocalMarket, client: Provider
) -> None:
    ledger = Ledger(directory)
    ledger.write(label(1), "created", instance_id=(taken := rent(client, "mine now")))
    ledger.close()
    try:
        assert recover(directory, client, by="test", timeouts=QUICK).destroyed == []
        assert alive(healthy) == {taken}
        assert recover(directory, client, by="test", timeouts=QUICK).destroyed == []
    finally:
        client.destroy(taken)


MANNERS: tuple[tuple[dict[str, Any], ...], ...] = (
    # The first is told here, the others in the slow suite.
    ({"name": "list_lags", "times": 3}, {"name": "show_null"}, {"name": "destroy_lies"}),
    ({"name": "destroy_fails", "times": 7},),
    ({"name": "destroy_lies", "times": 3},),
    ({"name": "destroy_lost"},),
    ({"name": "rate_limited", "endpoint": "destroy", "retry_after_s": 0.05, "times": 3},),
    ({"name": "unavailable", "endpoint": "list", "times": 9},),
    ({"name": "bad_gateway", "endpoint": "show", "times": 9},),
    ({"name": "connection_dropped", "after": 2, "times": 9},),  # not the search and the create
    ({"name": "rate_limited_text", "endpoint": "list"}, {"name": "server_error", "endpoint": "destroy"}),
)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(
            faults, marks=() if faults is MANNERS[0] else pytest.mark.slow, id="+".join(f["name"] for f in faults)
        )
        for faults in MANNERS
    ],
)
def test_no_manners_of_the_market_keep_it_from_its_end(directory: Path, faults: tuple[dict[str, Any], ...]) -> None:
    with LocalMarket({"market": {"rate_limits": False}, "machines": [{}], "faults": faults}) as market:
        with open_provider(market.url, market.api_key, timeouts=QUICK) as client:
            ledger = Ledger(directory)
            ledger.write(label(1), "created", instance_id=rent(client, label(1)))
            ledger.close()
            assert recover(directory, client, by="test", timeouts=QUICK).problems == []
        assert market.status()["alive"] == []


@pytest.mark.slow
def test_what_resists_is_told_with_the_command_that_does_it(directory: Path) -> None:
    quick = replace(QUICK, recovery_round_s=0.1)
    fleet = {"market": {"rate_limits": False}, "machines": [{"faults": [{"name": "destroy_fails", "times": 10_000}]}]}
    with LocalMarket(fleet) as market, open_provider(market.url, market.api_key, timeouts=QUICK) as client:
        ledger = Ledger(directory)
        ledger.write(label(1), "created", instance_id=(left := rent(client, label(1))))
        ledger.close()
        (problem,) = recover(directory, client, by="test", timeouts=quick, within_s=0.2).problems
        assert f"run `vastgpu destroy {left}`" in problem
        assert "Internal server error" in problem
        assert not read_ledger(directory / FILE).entries[label(1)].gone


def test_a_wrong_key_is_told_in_the_end(directory: Path, healthy: LocalMarket) -> None:
    ledger = Ledger(directory)
    ledger.write(label(1), "intended")
    ledger.close()
    with open_provider(healthy.url, "wrong", timeouts=QUICK) as client:
        (problem,) = recover(directory, client, by="test", timeouts=QUICK, within_s=0.1).problems
    assert problem.startswith(f"what run {RUN} has left could not be destroyed (")
    assert f"run `vastgpu destroy --run {RUN}`" in problem
