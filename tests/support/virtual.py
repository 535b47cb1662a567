"""A clock that a test moves on: waiting takes no time, and what would happen meanwhile happens in its order."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field

EPOCH_S = 1_800_000_000.0


@dataclass(order=True)
class _Event:
    at: float
    number: int
    action: Callable[[], None] = field(compare=False)


class VirtualClock:
    """Implements :class:`~pytest_vastgpu.core.clock.Clock` for one thread.

    Who waits runs what is due until then. So background loops are no threads, and a run is the same each time.
    """

    def __init__(self, epoch_s: float = EPOCH_S) -> None:
        self.now = 0.0
        self._epoch_s = epoch_s
        self._events: list[_Event] = []
        self._numbers: Iterator[int] = itertools.count()
        self._lock = threading.Lock()
        """A thread that gives something back may wait while another one does."""

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self._epoch_s + self.now

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have something happen in so many seconds."""
        with self._lock:
            heapq.heappush(self._events, _Event(self.now + max(0.0, delay_s), next(self._numbers), action))

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self._happens(end):
            pass
        self._is(end)

    def wait(self, condition: threading.Condition, until: Callable[[], bool], seconds: float) -> bool:
        end = self.now + seconds
        while not until():
            condition.release()
            try:
                more = self._happens(end)
            finally:
                condition.acquire()
            if not more:
                self._is(end)
                return until()
        return True

    def repeat(self, name: str, step: Callable[[], float | None], first_s: float = 0.0) -> VirtualTask:
        task = VirtualTask(self, step)
        task.schedule(first_s)
        return task

    def _happens(self, end: float) -> bool:
        """Let the next thing happen that is due by then; whether there was one."""
        with self._lock:
            if not self._events or self._events[0].at > end:
                return False
            event = heapq.heappop(self._events)
        self._is(event.at)
        event.action()
        return True

    def _is(self, moment: float) -> None:
        with self._lock:
            self.now = max(self.now, moment)


class VirtualTask:
    """Implements :class:`~pytest_vastgpu.core.clock.Repeated`."""

    def __init__(self, clock: VirtualClock, step: Callable[[], float | None]) -> None:
        self._clock = clock
        self._step = step
        self._generation = 0
        self._stopped = False

    def schedule(self, pause_s: float) -> None:
        self._generation += 1
        generation = self._generation
        self._clock.at(pause_s, lambda: self._run(generation))

    def _run(self, generation: int) -> None:
        if self._stopped or generation != self._generation:
            return
        pause_s = self._step()
        if pause_s is not None and generation == self._generation:
            self.schedule(pause_s)

    def wake(self) -> None:
        self.schedule(0.0)

    def stop(self) -> None:
        self._stopped = True

    def join(self, within_s: float) -> None:
        """It runs in the thread that waits: there is nothing to wait for."""
