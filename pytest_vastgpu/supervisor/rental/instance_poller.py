"""The provider's list of instances, asked once for all in this run who wait for news of one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.clock import Repeated
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.rental.polling import poll_pause_s


@dataclass(frozen=True)
class StatusUpdate:
    """One answer of the provider, or that there was none."""

    status: InstanceStatus | None
    """None: the provider says that there is no such instance, if there was no error."""
    error: BaseException | None = None
    """Why the provider could not be asked."""


@dataclass(frozen=True, eq=False)
class _Subscription:
    label: str
    since: float
    notify: Callable[[], None]
    updates: deque[StatusUpdate] = field(default_factory=deque)

    def tell(self, update: StatusUpdate) -> None:
        self.updates.append(update)
        self.notify()


class InstancePoller:
    """Asks the provider for all who watch, in the background, and only while somebody does.

    :param ask: The instances with a label, or with None all instances of the account. It keeps the interval between
        two calls that the market asks for; :mod:`~pytest_vastgpu.supervisor.rental.polling` says how much longer the
        pauses are.
    """

    def __init__(
        self,
        ask: Callable[[str | None], Sequence[InstanceStatus]],
        timeouts: Timeouts = DEFAULTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._ask = ask
        self._timeouts = timeouts
        self._clock = clock
        self._lock = threading.Lock()
        self._subscriptions: list[_Subscription] = []
        self._task: Repeated | None = None
        self._looked = 0.0

    @contextmanager
    def watching(self, label: str, notify: Callable[[], None]) -> Iterator[deque[StatusUpdate]]:
        """News of the instance with this label, in the order in which they come.

        An answer says "not there" only if it was asked for after this call.

        :param notify: Told of each, from another thread.
        """
        subscription = _Subscription(label, self._clock.monotonic(), notify)
        with self._lock:
            self._subscriptions.append(subscription)
            if self._task is None:
                self._looked = self._clock.monotonic()
                self._task = self._clock.repeat("vastgpu-poller", self._step, self._pause_s())
            else:
                self._task.wake()
        try:
            yield subscription.updates
        finally:
            with self._lock:
                self._subscriptions.remove(subscription)
                if self._task is not None:
                    self._task.wake()

    def _pause_s(self) -> float:
        """The lock is held."""
        pauses = (poll_pause_s(self._looked - each.since, self._timeouts) for each in self._subscriptions)
        return self._looked + min(pauses) - self._clock.monotonic()

    def _step(self) -> float | None:
        with self._lock:
            if not self._subscriptions:
                self._task = None
                return None
            if (pause_s := self._pause_s()) > 0:  # it was woken
                return pause_s
            asking = tuple(self._subscriptions)
        self._look(asking)
        with self._lock:
            self._looked = self._clock.monotonic()
            return max(0.0, self._pause_s()) if self._subscriptions else 0.0

    def _look(self, asking: Sequence[_Subscription]) -> None:
        labels = {subscription.label for subscription in asking}
        try:
            found = {status.label: status for status in self._ask(labels.pop() if len(labels) == 1 else None)}
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised by everybody who waits
            for subscription in asking:
                subscription.tell(StatusUpdate(None, error))
            return
        with self._lock:
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            # Who came while the market was asked is told what it says of an instance, not that it says nothing.
            if subscription.label in found or subscription in asking:
                subscription.tell(StatusUpdate(found.get(subscription.label)))
