"""Time as a value: a clock that is passed to the code, deadlines on it, and waits that can be cancelled.

Code that rents reads the time, sleeps and starts loops only through a :class:`Clock`. So a test can run the whole life
of an instance on a clock of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Protocol


class Cancelled(Exception):
    """The run is ending: code that waits stops waiting and cleans up."""


class Repeated(Protocol):
    """A step that is repeated in the background."""

    def wake(self) -> None:
        """Run the step now, without the rest of the pause."""
        ...

    def stop(self) -> None:
        """Run the step no more. Returns at once."""
        ...

    def join(self, within_s: float) -> None:
        """Wait until the last run of the step has ended, at most that many seconds."""
        ...


class Clock(Protocol):
    """Tells the time, and waits. Any thread may use it."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    def time(self) -> float:
        """Epoch seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        ...

    def wait(self, condition: threading.Condition, until: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``until()`` holds, at most that many seconds; returns whether it does.

        The caller holds the condition. Code that changes the result of ``until()`` must notify the condition.
        """
        ...

    def repeat(self, name: str, step: Callable[[], float | None], first_s: float = 0.0) -> Repeated:
        """Repeat a step in the background.

        :param step: One run of the step. Returns the seconds until the next run; None: no further run.
        :param first_s: Seconds until the first run.
        """
        ...


class _Thread:
    """A step that a thread of its own repeats."""

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

    def join(self, within_s: float) -> None:
        self._thread.join(within_s)


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
        """See :class:`Clock`. Each step has a thread of its own."""
        return _Thread(name, step, first_s)


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock.

    :param at: Seconds of the clock's monotonic time.
    """

    at: float
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The moment that many seconds from now."""
        return cls(clock.monotonic() + seconds, clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left; 0 after the moment has passed."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment has passed."""
        return self.clock.monotonic() >= self.at


class CancelToken:
    """Cancels a piece of work, whatever it is waiting for."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._cancelled = False
        self._changed = threading.Condition()

    def cancel(self) -> None:
        """End all waits, those now and all later ones."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def nudge(self) -> None:
        """Make every waiting thread check its condition again."""
        with self._changed:
            self._changed.notify_all()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def check(self) -> None:
        """:raises Cancelled: after :meth:`cancel`."""
        if self.cancelled:
            raise Cancelled

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait that many seconds, or until a condition holds; :meth:`nudge` makes the waiting threads check it.

        :param until: The condition; must be quick.
        :raises Cancelled: as soon as the token is cancelled.
        """
        with self._changed:
            self._clock.wait(self._changed, lambda: self._cancelled or until(), seconds)
        self.check()
