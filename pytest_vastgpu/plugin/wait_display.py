"""Decides when a wait is shown, and how. Pure: it is told the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.reporting.waiting import Waiting
from pytest_vastgpu.reporting.waiting import sentence
from pytest_vastgpu.reporting.waiting import status

EVERY_S = {0: 30.0, -1: 60.0}
"""Seconds between two lines, by pytest's verbosity; more quiet: no lines."""
IN_PLACE_FROM_S = 3.0
"""A line that changes in place appears after so long; it is gone when the wait is over."""
IN_PLACE_LINES = 4
"""Most workloads that have a line in place."""


class WaitDisplay:
    """What the tests of this run wait for, as the supervisor has last reported it.

    :param verbosity: pytest's.
    """

    def __init__(self, verbosity: int) -> None:
        self._every_s = EVERY_S.get(min(verbosity, 0), math.inf)
        self._waits: Sequence[Waiting] = ()
        self._at = 0.0
        self._own = ""
        self._since = 0.0
        self._told: dict[str, int] = {}

    def begin(self, what: str, now: float) -> None:
        """Note that this process itself begins to wait, and for what, until the supervisor reports more."""
        self._own, self._since = what, now
        self._waits = ()

    def end(self) -> None:
        """It waits no more."""
        self._own, self._waits = "", ()
        self._told.clear()

    def take(self, waits: Sequence[Waiting], now: float) -> None:
        """Take what tests wait for now."""
        self._waits, self._at = tuple(waits), now

    def lines(self, now: float) -> list[str]:
        """The lines that are due."""
        current = self._current(now)
        due = []
        for each in current:
            turns = math.floor((each.seconds + now - self._at) / self._every_s)
            if turns > self._told.get(each.workload, 0):
                due.append(sentence(each, now - self._at))
            self._told[each.workload] = turns
        self._told = {each.workload: self._told[each.workload] for each in current}
        return due

    def status(self, now: float, columns: int) -> list[str]:
        """The lines that are shown in place, the longest wait first."""
        if self._every_s == math.inf:
            return []
        current = sorted(self._current(now), key=lambda each: -each.seconds)
        more_s = now - self._at
        shown = [status(each, columns, more_s) for each in current if each.seconds + more_s >= IN_PLACE_FROM_S]
        left_out = len(shown) - IN_PLACE_LINES
        return shown if left_out <= 0 else [*shown[:IN_PLACE_LINES], f"waiting for {left_out} more"]

    def _current(self, now: float) -> Sequence[Waiting]:
        if self._waits or not self._own:
            return self._waits
        self._at = now
        return (Waiting(self._own, now - self._since, ""),)


def giving_back(what: Sequence[str], seconds: float, silent_s: float = 0.0) -> str:
    """What the end of a run waits for.

    :param what: What is waited for; none: the supervisor itself.
    :param silent_s: For how long the supervisor has not answered; 0: it has.
    """
    silent = f"; the supervisor has not answered for {spoken(silent_s)}" if silent_s else ""
    return f"still giving back: waiting {spoken(seconds)} for {', '.join(what) or 'the supervisor'}{silent}"
