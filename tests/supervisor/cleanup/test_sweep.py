"""Who is swept, by the run's start or by hand, and who never."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from pytest_vastgpu.cli.main import main
from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.supervisor.cleanup.sweep import CLOCKS_S
from pytest_vastgpu.supervisor.cleanup.sweep import orphans
from pytest_vastgpu.supervisor.cleanup.sweep import overdue
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from tests.supervisor.cleanup.test_recover import rent
from tests.supervisor.cleanup.test_recover import status
from tests.support.limits import UNSPACED
from tests.support.vast import search_offers


def test_ownership_is_exclusive_and_ends_with_its_block(tmp_path: Path) -> None:
    assert not is_owned(tmp_path)
    with ownership(tmp_path) as first, ownership(tmp_path) as second:
        assert first
        assert not second
        assert is_owned(tmp_path)
    assert not is_owned(tmp_path)


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("label", "swept"),
    [
        (make_label("other", 1, NOW - CLOCKS_S - 1), True),
        (make_label("other", 1, NOW - CLOCKS_S + 1), False),
        (make_label("other", 1, NOW + 1), False),
        ("", False),
        ("training", False),
        (f"somebody-{make_label('other', 1, 0)}", False),
    ],
)
def test_an_end_of_life_must_be_over_for_a_minute(label: str, swept: bool) -> None:
    listed = [status(7, label)]
    assert overdue(listed, NOW) == (listed if swept else [])


def ledger_of(run: str, market: str, *labels: str) -> Path:
    ledger = Ledger(runs_dir() / run)
    ledger.begin(run, market, "http://market", embedded=False)
    for label in labels:
        ledger.write(label, "intended")
        ledger.write(label, "created", instance_id=7)
    ledger.close()
    return ledger.path.parent


def test_only_runs_here_whose_owner_is_dead_and_that_left_something_are_orphans() -> None:
    mine = make_label("a1", 1, NOW)
    dead = ledger_of("a1", "mine", mine)
    with ExitStack() as stack:
        stack.enter_context(ownership(ledger_of("a2", "mine", make_label("a2", 1, NOW))))
        ledger_of("a3", "somebody else's", make_label("a3", 1, NOW))
        ledger_of("a4", "mine")
        (runs_dir() / "a5").mkdir()  # a run that has only just begun
        (cut := ledger_of("a6", "mine")).joinpath(FILE).write_text('{"time": 1.0, "st')
        shown = make_label("a6", 1, NOW)
        found = orphans(runs_dir(), "mine", [status(8, shown)])
    assert [orphan.directory for orphan in found] == [dead, cut]
    assert [entry.label for orphan in found for entry in orphan.due.destroy] == [mine, shown]


def test_a_ledger_that_others_may_have_written_says_nothing() -> None:
    label = make_label("a1", 1, NOW)
    ledger_of("a1", "mine", label).chmod(0o777)
    assert orphans(runs_dir(), "mine", [status(7, label)]) == []


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalMarket]:
    with LocalMarket({"market": {"rate_limits": False}, "machines": [{"count": 5, "price_usd_h": 0.2}]}) as market:
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", market.api_key)
        yield market


@pytest.fixture
def client(market: LocalMarket) -> Iterator[Provider]:
    with open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
        yield client


def alive(market: LocalMarket) -> list[int]:
    return sorted(row["id"] for row in market.status()["alive"])


def test_reap_says_what_it_would_do_and_why_and_then_does_it(
    market: LocalMarket, client: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reap"], UNSPACED) == 0
    assert capsys.readouterr().out == "runs that are over have left nothing\n"
    account = account_identity(market.url, market.api_key)
    labels = [make_label(run, 1, time.time() + 3600) for run in ("dead", "alive", "elsewhere")]
    dead, living, elsewhere = (rent(client, label) for label in labels)
    late, foreign = rent(client, make_label("elsewhere", 2, time.time() - 600)), rent(client, "training")
    for run, label, instance in (("dead", labels[0], dead), ("alive", labels[1], living)):
        path = ledger_of(run, account, label).joinpath(FILE)
        path.write_text(path.read_text().replace('"instance_id": 7', f'"instance_id": {instance}'))
    pid = read_ledger(runs_dir() / "dead" / FILE).pid
    with ownership(runs_dir() / "alive"):
        before = (runs_dir() / "dead" / FILE).read_text()
        assert main(["reap"], UNSPACED) == 0
        assert capsys.readouterr().out == (
            f"would destroy instance {dead} (0.201 USD/h): its run dead is over (process {pid} is dead)\n"
            f"would destroy instance {late} (0.201 USD/h): its end of life was 10 min ago\n"
            "nothing was done: `vastgpu reap --no-dry-run` does it\n"
        )
        assert len(alive(market)) == 5
        assert (runs_dir() / "dead" / FILE).read_text() == before
        assert main(["reap", "--no-dry-run"], UNSPACED) == 0
        assert capsys.readouterr().out.splitlines()[2:] == [f"instance {dead} is gone", f"instance {late} is gone"]
        assert alive(market) == sorted([living, elsewhere, foreign])


def test_reap_fails_where_something_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = Timeouts(destroy_within_s=0.1, market_pause_s=0.01, rate_limits=False)
    fleet = {"market": {"rate_limits": False}, "machines": [{"faults": [{"name": "destroy_fails", "times": 999}]}]}
    with LocalMarket(fleet) as market, open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", market.api_key)
        late = rent(client, make_label("elsewhere", 2, time.time() - 600))
        assert main(["reap", "--no-dry-run"], quick) == 1
        assert f"run `vastgpu destroy {late}`" in capsys.readouterr().err
        assert main(["destroy", "--run", "elsewhere"], quick) == 1
        assert f"run `vastgpu destroy {late}`" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stopped_instance_is_not_gone(market: LocalMarket, client: Provider) -> None:
    offer = search_offers(client, {"rentable": {"eq": True}})[0]
    label = make_label("abcd", 1, time.time() + 60)
    instance = client.create(offer.id, CreateRequest("image", 10, label))
    stopped = httpx.put(
        f"{market.url}/api/v0/instances/{instance}/",
        json={"state": "stopped"},
        headers={"Authorization": f"Bearer {market.api_key}"},
        trust_env=False,
    )
    assert stopped.json()["success"] is True
    assert alive(market) == [instance]
    assert main(["destroy", "--run", "abcd"], UNSPACED) == 0
    assert alive(market) == []
