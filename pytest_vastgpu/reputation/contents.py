"""The complete contents of a host cache as values, and how two of them are merged. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import TypeVar

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override

KEPT_S = 180 * DAY_S
"""Older evidence is dropped when the file is rewritten, because machines change owners and hardware."""
KEPT_PER_MACHINE = 50
"""Newest outcomes kept for each machine when the file is rewritten."""
KEPT_IN_ALL = 20_000
"""Newest outcomes kept in total, so that a cache stays quick to read."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class MarketRecords:
    """The contents of a host cache for one market. A machine's id has no meaning outside its market."""

    evidence: Mapping[str, Outcome] = field(default_factory=dict)
    """By id."""
    machines: Mapping[int, Override] = field(default_factory=dict)
    hosts: Mapping[int, Override] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    """Keys that this version does not know."""


@dataclass(frozen=True)
class CacheContents:
    """The complete contents of a host cache."""

    markets: Mapping[str, MarketRecords] = field(default_factory=dict)
    """By :func:`~pytest_vastgpu.providers.market_name.market_name`."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Top-level keys that this version does not know."""

    def of(self, market: str) -> MarketRecords:
        """The contents for one market."""
        return self.markets.get(market, MarketRecords())

    def changed(self, market: str, change: Callable[[MarketRecords], MarketRecords]) -> CacheContents:
        """The contents with the records of one market changed."""
        return replace(self, markets={**self.markets, market: change(self.of(market))})


def together(one: CacheContents, other: CacheContents) -> CacheContents:
    """Two contents merged, each market by itself as in :func:`union`."""
    return CacheContents(
        merged(one.markets, other.markets, union),
        merged(one.extra, other.extra, both_values),
    )


def union(one: MarketRecords, other: MarketRecords) -> MarketRecords:
    """Two records of a market merged. The order does not matter, and an outcome that is in both counts once.

    :returns: All evidence; a machine or host is allowed if either allows it; of two bans the one that was set later.
    """
    return MarketRecords(
        merged(one.evidence, other.evidence, either),
        merged(one.machines, other.machines, both_entries),
        merged(one.hosts, other.hosts, both_entries),
        merged(one.extra, other.extra, both_values),
    )


def pruned(contents: CacheContents, now: float) -> CacheContents:
    """The contents without evidence that is too old or exceeds the limits, and without bans that have ended.

    :param now: Epoch seconds.
    """
    recent = [item for book in contents.markets.values() for item in book.evidence.values() if now - item.time < KEPT_S]
    oldest = min((item.time for item in sorted(recent, key=by_time)[-KEPT_IN_ALL:]), default=now)
    books = {market: _pruned_book(book, oldest, now) for market, book in contents.markets.items()}
    return replace(contents, markets={market: book for market, book in books.items() if book != MarketRecords()})


def _pruned_book(book: MarketRecords, oldest: float, now: float) -> MarketRecords:
    of_machine: dict[int, list[Outcome]] = defaultdict(list)
    for item in book.evidence.values():
        if item.time >= oldest:
            of_machine[item.machine_id].append(item)
    kept = [item for items in of_machine.values() for item in sorted(items, key=by_time)[-KEPT_PER_MACHINE:]]
    return replace(
        book,
        evidence={item.id: item for item in kept},
        machines=_without_spent(book.machines, now),
        hosts=_without_spent(book.hosts, now),
    )


def merged(one: Mapping[Any, _T], other: Mapping[Any, _T], join: Callable[[_T, _T], _T]) -> dict[Any, _T]:
    """Two mappings merged; ``join`` computes the value of a key that is in both."""
    return {
        key: join(one[key], other[key]) if key in one and key in other else one[key] if key in one else other[key]
        for key in [*one, *(key for key in other if key not in one)]
    }


def either(one: _T, other: _T) -> _T:
    """One of two values that should be equal; the choice does not depend on the order."""
    return one if one == other else max(one, other, key=repr)


def both_values(one: object, other: object) -> object:
    """Two values of an unknown key merged: all items of two lists, otherwise one of the two values."""
    if isinstance(one, list) and isinstance(other, list):
        return sorted([*one, *(item for item in other if item not in one)], key=repr)
    return either(one, other)


def both_entries(one: Override, other: Override) -> Override:
    """Two entries for the same id merged."""
    bans = [entry.ban for entry in (one, other) if entry.ban is not None]
    return Override(
        one.allowed or other.allowed,
        max(bans, key=lambda ban: (ban.since, ban.until, repr(ban))) if bans else None,
        merged(one.extra, other.extra, both_values),
    )


def by_time(item: Outcome) -> tuple[float, str]:
    """Sort key: oldest first."""
    return item.time, item.id


def _without_spent(entries: Mapping[int, Override], now: float) -> dict[int, Override]:
    kept = {
        key: replace(entry, ban=None) if entry.ban and entry.ban.until <= now else entry
        for key, entry in entries.items()
    }
    return {key: entry for key, entry in kept.items() if entry != Override()}
