"""What of ours is alive on the markets, together with what the ledgers of this machine know of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.cli.markets import Market
from pytest_vastgpu.cli.markets import Markets
from pytest_vastgpu.client import warm
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.reporting.alive import Why
from pytest_vastgpu.supervisor.ledger.run_directory import is_alive
from pytest_vastgpu.supervisor.ledger.run_directory import run_directories


@dataclass(frozen=True)
class LocalRun:
    """A run of this machine."""

    directory: Path
    record: Record
    alive: bool
    """Whether its supervisor lives."""

    @property
    def id(self) -> str:
        """Its id."""
        return self.directory.name


@dataclass(frozen=True)
class Ours:
    """An instance with one of our labels."""

    status: InstanceStatus
    label: Label
    market: Market
    run: LocalRun | None
    """None if another machine made the run, or its record is gone."""
    warm_until: float = 0.0
    """Epoch seconds until which it waits for the next run with ``--vast-reuse``; 0 where it does not."""

    @property
    def id(self) -> int:
        """Its id on the market."""
        return self.status.id

    @property
    def kept_until(self) -> float:
        """Epoch seconds until which it is kept for a look inside; 0 where it is not."""
        entry = self.run.record.entries.get(self.status.label) if self.run else None
        return entry.kept_until if entry else 0.0

    @property
    def why(self) -> Why | None:
        """Why it is alive; None: a run uses it, or it is another machine's."""
        if self.kept_until:
            return Why.KEPT
        if self.warm_until:
            return Why.WARM
        return Why.LEFT if self.run is not None and not self.run.alive else None

    @property
    def ends_at(self) -> float:
        """Epoch seconds at which it must be gone."""
        return self.kept_until or self.warm_until or self.label.ends_at


@dataclass(frozen=True)
class Found:
    """All that is alive, as far as the markets could be asked."""

    instances: Sequence[Ours]
    problems: Sequence[str]
    """Why not all of it may be there, one line each."""
    no_account: str = ""
    """See :attr:`~pytest_vastgpu.cli.markets.Markets.no_account`. It is no problem to those who rent here only."""

    def require_all(self) -> None:
        """Check that everything was looked at, before something is said not to be there.

        :raises MarketError: if it was not.
        """
        for why in (*self.problems, self.no_account):
            if why:
                raise MarketError(why)


class NoSuchInstance(VastGpuError):
    """No instance, or more than one, is what the user has named."""


def local_runs() -> Iterator[LocalRun]:
    """Every run of this machine whose ledger can be read."""
    for directory in run_directories():
        with suppress(OSError):  # it has no ledger yet, or is being removed
            (directory / FILE).stat()
            alive = is_alive(directory)  # before its ledger is read: one that ends meanwhile has left nothing
            yield LocalRun(directory, read_ledger(directory / FILE), alive)


def find_all(markets: Markets) -> Found:
    """Ask every market for what is ours; the account's comes first."""
    runs = {run.id: run for run in local_runs()}
    waits = {each.label: each.until for known in warm.all_warm() for each in warm.instances(known) or ()}
    instances, problems = [], []
    for market in markets.all:
        try:
            listed = market.client.list_instances()
        except MarketError as error:
            run = runs.get(market.run_id)
            if not market.run_id or (run and is_alive(run.directory)):  # else it has ended meanwhile, as its run has
                problems.append(str(error))
            continue
        for status in listed:
            if label := Label.parse(status.label):
                instances.append(Ours(status, label, market, runs.get(label.run_id), waits.get(status.label, 0.0)))
    asked = {market.identity for market in markets.all}
    return Found(instances, [*problems, *_elsewhere(runs.values(), asked, time.time())], markets.no_account)


def _elsewhere(runs: Iterable[LocalRun], asked: set[str], now: float) -> Iterator[str]:
    """What runs of this machine have rented with another key, or on another market, and was not seen to be gone."""
    for run in runs:
        if run.record.embedded or run.record.market in asked:
            continue
        left = [entry for entry in run.record.entries.values() if not entry.gone]
        if any((label := Label.parse(entry.label)) and max(label.ends_at, entry.kept_until) > now for entry in left):
            yield (
                f"what run {run.id} has rented at {run.record.url} is not looked at: VAST_URL and VAST_API_KEY name "
                "another account"
            )


def choose(markets: Markets, word: str | None) -> Ours:
    """The instance that the user means.

    :param word: Its id or label, or the start of one of them or of its run's id; None: the only one.
    :raises NoSuchInstance: if there is none, or more than one.
    :raises MarketError: if there is none, and a market could not be asked that may have it.
    """
    found = find_all(markets)
    if word is None:
        matching = list(found.instances)
    else:
        exact = [ours for ours in found.instances if word in (str(ours.id), ours.status.label)]
        matching = exact or [ours for ours in found.instances if _starts(ours, word)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        which = ", ".join(f"{ours.id} (run {ours.label.run_id})" for ours in matching[:8])
        raise NoSuchInstance(f"{len(matching)} instances are meant: name one of {which}")
    if word is None or not is_gone(word):
        found.require_all()
    if word is None:
        raise NoSuchInstance("no instance of pytest-vastgpu is alive")
    raise NoSuchInstance(absent(word))


def _starts(ours: Ours, word: str) -> bool:
    return any(name.startswith(word) for name in (str(ours.id), ours.status.label, ours.label.run_id))


def entry_of(word: str) -> tuple[LocalRun, LedgerEntry] | None:
    """What the ledgers of this machine know of an instance, by its id or label; the newest run's."""
    for run in sorted(local_runs(), key=lambda run: -run.record.started_at):
        for entry in run.record.entries.values():
            if word in (str(entry.instance_id or ""), entry.label):
                return run, entry
    return None


def is_gone(word: str) -> bool:
    """Whether a run of this machine has had this instance, and it is known here to be gone: no market need be asked.

    :param word: Its id or label.
    """
    known = entry_of(word)
    return known is not None and (known[1].gone or (known[0].record.embedded and not known[0].alive))


def absent(word: str) -> str:
    """Why there is no such instance, in words."""
    shown = sanitize.line(word, sanitize.CELL_CHARS)
    known = entry_of(word)
    if known is None:
        return f"there is no instance {shown} in this account, and no run here has ever rented it"
    return f"instance {shown} of run {known[0].id} is not there any more"
