"""Time as a value: a clock that is passed in, deadlines on it, and waiting that can be cut short.

Nothing that rents reads the time, sleeps or starts a loop of its own but through a :class:`Clock`. So its whole life
can run on a clock that a test moves on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Protocol


class Cancelled(Exception):
    """The run is ending: whoever waits gives up and cleans up."""


class Repeated(Protocol):
    """Something that is done again and again in the background."""

    def wake(self) -> None:
        """Do it now, whatever the pause was to be."""
        ...

    def stop(self) -> None:
        """Do it no more. Waits for nothing."""
        ...

    def join(self) -> None:
        """Wait until it is done for the last time."""
        ...


class Clock(Protocol):
    """Tells the time, and waits. Any thread may use it."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    def time(self) -> float:
        """Epoch seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...

    def wait(self, condition: threading.Condition, until: Callable[[], bool], seconds: float) -> bool:
        """Wait until something has come, but not longer; whether it has. The condition is held, and notified of it."""
        ...

    def repeat(self, name: str, step: Callable[[], float | None], first_s: float = 0.0) -> Repeated:
        """Do something in the background, again and again.

        :param step: Does it once. Gives the seconds until the next time; None: never again.
        :param first_s: Seconds until the first time.
        """
        ...


class _Thread:
    """A step that is repeated in a thread of its own."""

    def __init__(self, name: str, step: Callable[[], float | None], first_s: float) -> None:
        self._step = step
        self._changed = threading.Condition()
        self._stopped = self._woken = False
        self._thread = threading.Thread(target=self._run, args=(first_s,), name=name, daemon=True)
        self._thread.start()

    def _run(self, pause_s: float | None) -> None:
        while pause_s is not None:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._woken, pause_s)
                self._woken = False
                if self._stopped:
                    return
            pause_s = self._step()

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def join(self) -> None:
        self._thread.join()


class SystemClock:
    """The time of this machine. Implements :class:`Clock`."""

    def monotonic(self) -> float:
        """See :class:`Clock`."""
        return time.monotonic()

    def time(self) -> float:
        """See :class:`Clock`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See :class:`Clock`."""
        time.sleep(seconds)

    def wait(self, condition: threading.Condition, until: Callable[[], bool], seconds: float) -> bool:
        """See :class:`Clock`."""
        return condition.wait_for(until, seconds)

    def repeat(self, name: str, step: Callable[[], float | None], first_s: float = 0.0) -> Repeated:
        """See :class:`Clock`. Each has a thread of its own."""
        return _Thread(name, step, first_s)


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock.

    :param at: Seconds on its monotonic side.
    """

    at: float
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The moment that many seconds from now."""
        return cls(clock.monotonic() + seconds, clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left; 0 when it has passed."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def passed(self) -> bool:
        """Whether nothing is left."""
        return self.clock.monotonic() >= self.at


class CancelToken:
    """Cancels a piece of work, whatever it waits for."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._cancelled = False
        self._changed = threading.Condition()

    def cancel(self) -> None:
        """End all waiting, now and from now on."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def nudge(self) -> None:
        """Make all who wait for something look whether it has come."""
        with self._changed:
            self._changed.notify_all()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def check(self) -> None:
        """:raises Cancelled: if it was called off."""
        if self.cancelled:
            raise Cancelled

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait that long, or until something has come of which :meth:`nudge` tells.

        :param until: Whether it has come; must be quick.
        :raises Cancelled: as soon as it is called off.
        """
        with self._changed:
            self._clock.wait(self._changed, lambda: self._cancelled or until(), seconds)
        self.check()
