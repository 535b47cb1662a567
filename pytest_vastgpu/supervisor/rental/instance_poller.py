"""Polls the provider's list of instances once for all rentals of the run that are booting."""

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
    """One answer of the provider, or the error in its place."""

    status: InstanceStatus | None
    """None: the instance does not exist, unless :attr:`error` is set."""
    error: BaseException | None = None
    """Why the provider gave no answer."""


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
    """Asks the provider for all subscribers, in the background, and only while there are any.

    :param ask: Returns the instances with a label; with None, all instances of the account. It keeps the minimum
        interval between two calls; :mod:`~pytest_vastgpu.supervisor.rental.polling` decides on longer pauses.
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
        self._asked_at = 0.0

    @contextmanager
    def watching(self, label: str, notify: Callable[[], None]) -> Iterator[deque[StatusUpdate]]:
        """Subscribe to the instance with this label; yields the updates, oldest first.

        An update reports a missing instance only if the provider was asked after this call.

        :param notify: Called after each update, from another thread.
        """
        subscription = _Subscription(label, self._clock.monotonic(), notify)
        with self._lock:
            self._subscriptions.append(subscription)
            if self._task is None:
                self._asked_at = self._clock.monotonic()
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
        """Seconds to the next call. The caller holds the lock."""
        pauses = (poll_pause_s(self._asked_at - each.since, self._timeouts) for each in self._subscriptions)
        return self._asked_at + min(pauses) - self._clock.monotonic()

    def _step(self) -> float | None:
        with self._lock:
            if not self._subscriptions:
                self._task = None
                return None
            if (pause_s := self._pause_s()) > 0:  # woken early
                return pause_s
            asking = tuple(self._subscriptions)
        self._poll(asking)
        with self._lock:
            self._asked_at = self._clock.monotonic()
            return max(0.0, self._pause_s()) if self._subscriptions else 0.0

    def _poll(self, asking: Sequence[_Subscription]) -> None:
        labels = {subscription.label for subscription in asking}
        try:
            found = {status.label: status for status in self._ask(labels.pop() if len(labels) == 1 else None)}
        except BaseException as error:  # noqa: BLE001 - each subscriber raises it
            for subscription in asking:
                subscription.tell(StatusUpdate(None, error))
            return
        with self._lock:
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            # A subscriber that joined during the call is not told "missing": its instance may be newer than the answer.
            if subscription.label in found or subscription in asking:
                subscription.tell(StatusUpdate(found.get(subscription.label)))
