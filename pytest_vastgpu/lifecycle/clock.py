"""Time as a value: deadlines that are passed in, and waiting that can be cut short."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


class Cancelled(Exception):
    """The run is ending: whoever waits gives up and cleans up."""


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


class Patience:
    """Waits until told to stop. One for each piece of work that may be called off."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def cancel(self) -> None:
        """End all waiting, now and from now on."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._stop.is_set()

    def check(self) -> None:
        """:raises Cancelled: if it was called off."""
        if self.cancelled:
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Wait that long.

        :raises Cancelled: as soon as it is called off.
        """
        if self._stop.wait(seconds):
            raise Cancelled
