"""The end of a run: says what giving back waits for, and what is left where the supervisor has died."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.plugin.terminal import REDRAWN_EVERY_S
from pytest_vastgpu.plugin.wait_display import giving_back
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.alive import Why
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed


class Waits:
    """Says again and again what giving back waits for.

    :param show: Shows a line in place, or returns that it cannot.
    :param say: Prints a line.
    """

    def __init__(self, show: Callable[[str], bool], say: Callable[[str], None], every_s: float) -> None:
        self._show = show
        self._say = say
        self._every_s = every_s
        self._began = self._heard = self._said = time.monotonic()
        self._what: list[str] = []
        self._in_place = False

    def now_for(self, what: list[str]) -> None:
        """Note what is waited for."""
        self._what = what
        self._heard = time.monotonic()

    def tell(self) -> None:
        """Say it where that is due."""
        now = time.monotonic()
        if now - self._said < (REDRAWN_EVERY_S if self._in_place else self._every_s):
            return
        self._said = now
        silent_s = now - self._heard
        text = giving_back(self._what, now - self._began, silent_s if silent_s > 2 * self._every_s else 0.0)
        self._in_place = self._show(text)
        if not self._in_place:
            self._say(text)


def left_by_the_dead(directory: Path, limit_s: float, wait_for: Callable[[list[str]], None]) -> list[Alive]:
    """What a dead supervisor has left, by its ledger, once its guard has destroyed what it can.

    :param directory: That of the supervisor's run.
    :param limit_s: How long the guard has for that.
    :param wait_for: Called again and again with what is waited for.
    """
    left: list[Alive] = []
    ends = time.monotonic() + limit_s
    while time.monotonic() < ends:
        try:
            entries = read_ledger(directory / FILE).left(time.time())
        except OSError as error:
            cause = f"its ledger cannot be read: {error}"
            return [Alive(Why.RESISTS, f"what run {directory.name} has left", "vastgpu ls", cause=cause)]
        why = "its supervisor has died, or does not answer"
        left = [NotDestroyed(entry.instance_id or entry.label, why).alive for entry in entries]
        if not left:
            break
        wait_for([f"{entry.instance_id or entry.label}, by the guard" for entry in entries])
        threading.Event().wait(0.1)
    return left
