"""When workers are started, hosts rented again and given back. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import NamedTuple

MOST_FRUITLESS = 2
"""A place whose host was lost so often in a row, without a single result in between, stays empty: what runs there may
be what ends it, and each of them costs money."""


class Situation(NamedTuple):
    """What there is, and what is left to do."""

    begun: bool
    """Whether it is known which tests there are."""
    waiting: int
    """Tests that no worker has yet."""
    movable: int
    """Those, and the ones that others can take from workers that have too many."""
    doubtful: Collection[str]
    """Hosts with workers that have ended for a reason yet to be found out; their tests may have to run again."""
    unproven: int
    """Workers that have tests, and have begun none yet: they may be able to run none."""
    able: int
    """Workers that can still take tests,"""
    collecting: int
    """and those of them that have none yet, since they collect."""
    busy: Mapping[str, int]
    """How many workers each host has that have not ended, by its name: all hosts that are ready."""
    coming: Mapping[str, int]
    """How many workers are on their way, by the name of their host."""
    each: int
    """How many workers a host has."""


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    start: dict[str, int] = field(default_factory=dict)
    """How many workers to start on which host."""
    rent: list[str] = field(default_factory=list)
    """Places to rent a host for."""
    give_back: list[str] = field(default_factory=list)
    """Hosts that are of no more use."""
    give_up: bool = False
    """Whether what is left can run nowhere."""


@dataclass
class Supply:
    """The places of the run's hosts, by name, and what is known of losses there."""

    empty: set[str] = field(default_factory=set)
    """Those whose host was lost, and that another may take."""
    _fruitless: Counter[str] = field(default_factory=Counter)

    def fruitful(self, name: str) -> None:
        """A test has ended on its host."""
        self._fruitless.pop(name, None)

    def lost(self, name: str, *, counts: bool = True) -> None:
        """Its host is lost. Another may take its place, unless one after another was lost there.

        :param counts: False where it cannot go on for ever.
        """
        self._fruitless[name] += counts
        if self._fruitless[name] < MOST_FRUITLESS:
            self.empty.add(name)

    def plan(self, now: Situation) -> Plan:
        """Decide what to do. What is to be rented is taken as begun."""
        start = _start(now)
        coming = sum(now.coming.values()) + sum(start.values())
        takers = coming + now.collecting
        rent = []
        for name in sorted(self.empty):
            if now.begun and now.movable <= takers:
                break
            rent.append(name)
            takers += now.each
        self.empty.difference_update(rent)
        nobody = not coming and not rent and not sum(now.busy.values()) and not now.doubtful
        idle = now.begun and not now.waiting and not now.doubtful and not now.unproven
        return Plan(
            start,
            rent,
            [name for name, workers in now.busy.items() if idle and not workers and not now.coming.get(name)],
            give_up=nobody and bool(now.waiting or not now.begun),
        )


def _start(now: Situation) -> dict[str, int]:
    """Workers to start on hosts that live: scheduling has told theirs to end, and then tests came back."""
    found: dict[str, int] = {}
    left = 0 if now.able or sum(now.coming.values()) else now.waiting
    for name in now.busy:
        if left > 0 and name not in now.doubtful:
            found[name] = min(now.each, left)
            left -= found[name]
    return found
