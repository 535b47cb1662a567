"""Time as a value: deadlines that are passed in, and waiting that can be cut short."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


class Cancelled(Exception):
    """The run is ending: code that waits gives up and cleans up."""


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock.

    :param at: Seconds of :func:`time.monotonic`.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment that many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left; 0 when it has passed."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self.at


class CancelToken:
    """Waits until told to stop. One for each piece of work that may be called off."""

    def __init__(self) -> None:
        self._stopped = False
        self._changed = threading.Condition()

    def cancel(self) -> None:
        """End all waiting, now and from now on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def nudge(self) -> None:
        """Make all who wait for something look whether it has come."""
        with self._changed:
            self._changed.notify_all()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._stopped

    def check(self) -> None:
        """:raises Cancelled: if it was called off."""
        if self.cancelled:
            raise Cancelled

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait that long, or until what is awaited has come; :meth:`nudge` says when to look.

        :param until: Whether it has come; must be quick.
        :raises Cancelled: as soon as it is called off.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or until(), seconds)
        self.check()
