"""The local market as the account's, and as that of a run of this machine that is alive."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.supervisor.ledger.embedded_market import published
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from pytest_vastgpu.supervisor.ledger.run_directory import make_run_directory
from tests.supervisor.cleanup.test_recover import rent
from tests.support.limits import UNSPACED

FLEET = {"market": {"rate_limits": False}, "machines": [{"count": 5, "price_usd_h": 0.2}]}


@pytest.fixture
def market() -> Iterator[LocalMarket]:
    with LocalMarket(FLEET) as market:
        yield market


@pytest.fixture
def client(market: LocalMarket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Of the market, which is the account's now."""
    monkeypatch.setenv("VAST_URL", market.url)
    monkeypatch.setenv("VAST_API_KEY", market.api_key)
    with open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
        yield client


@dataclass
class FakeRun:
    """A run as the files of one say: its directory, and an instance that it has rented."""

    directory: Path
    label: str
    instance: int = 0
    ledger: Ledger | None = None

    def write(self, step: str, **facts: object) -> None:
        """Write a step of the instance into the ledger."""
        assert self.ledger is not None
        self.ledger.write(self.label, step, **facts)


MakeRun: TypeAlias = Callable[..., FakeRun]


@pytest.fixture
def make_run(market: LocalMarket) -> Iterator[MakeRun]:
    """Makes a run that has rented from the market: ``make_run("abcd1234", alive=True)``."""
    with ExitStack() as stack:

        def make(
            run_id: str, *, alive: bool, embedded: bool = False, ends_in_s: float = 3600, started_in: str = ""
        ) -> FakeRun:
            run = FakeRun(make_run_directory(run_id), make_label(run_id, 1, time.time() + ends_in_s))
            if alive:
                stack.enter_context(ownership(run.directory))
            run.ledger = Ledger(run.directory)
            stack.callback(run.ledger.close)
            identity = account_identity(market.url, market.api_key)
            run.ledger.begin(run_id, identity, market.url, embedded=embedded, started_in=started_in or str(Path.cwd()))
            if embedded and alive:
                stack.enter_context(published(run.directory, market.url, Secret(market.api_key)))
            with open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
                run.write("intended")
                run.instance = rent(client, run.label)
                run.write("created", instance_id=run.instance)
            return run

        yield make


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
