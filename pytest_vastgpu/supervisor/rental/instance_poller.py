"""The market's list of instances, asked once for everybody in this run who waits for news of one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.rental.polling import poll_pause_s


@dataclass(frozen=True)
class StatusUpdate:
    """One answer of the market, or that there was none."""

    status: InstanceStatus | None
    """None: the market says that there is no such instance, if there was no error."""
    error: BaseException | None = None
    """Why the market could not be asked."""


class Subscription:
    """Where news of one instance arrive. See :meth:`InstancePoller.watching`."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.since = time.monotonic()
        self._news: queue.SimpleQueue[StatusUpdate] = queue.SimpleQueue()

    def tell(self, news: StatusUpdate) -> None:
        """Pass on an answer."""
        self._news.put(news)

    def news(self, timeout_s: float) -> StatusUpdate | None:
        """The next answer, at once when it is there; None where none came in time."""
        try:
            return self._news.get(timeout=timeout_s)
        except queue.Empty:
            return None


class InstancePoller:
    """Looks at the market for all who watch, in a thread that lives only while somebody does.

    :param ask: The instances with a label, or with None all instances of the account. It keeps the interval between
        two calls that the market asks for; :mod:`~pytest_vastgpu.supervisor.rental.polling` says how much longer the
        pauses are.
    """

    def __init__(self, ask: Callable[[str | None], Sequence[InstanceStatus]], timeouts: Timeouts = DEFAULTS) -> None:
        self._ask = ask
        self._timeouts = timeouts
        self._changed = threading.Condition()
        self._inboxes: list[Subscription] = []
        self._looking = False

    @contextmanager
    def watching(self, label: str) -> Iterator[Subscription]:
        """News of the instance with this label.

        An answer says "not there" only if it was asked for after this call.
        """
        inbox = Subscription(label)
        with self._changed:
            self._inboxes.append(inbox)
            self._changed.notify_all()
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look_on, name="vastgpu-board", daemon=True).start()
        try:
            yield inbox
        finally:
            with self._changed:
                self._inboxes.remove(inbox)
                self._changed.notify_all()

    def _look_on(self) -> None:
        while asking := self._due():
            self._look(asking)

    def _due(self) -> Sequence[Subscription]:
        """Who is to be told of the next look, when it is time for it; nobody: it is over."""
        looked = time.monotonic()
        with self._changed:
            while self._inboxes:
                pauses = (poll_pause_s(looked - inbox.since, self._timeouts) for inbox in self._inboxes)
                pause = looked + min(pauses) - time.monotonic()
                if pause <= 0:
                    return tuple(self._inboxes)
                self._changed.wait(pause)
            self._looking = False
            return ()

    def _look(self, asking: Sequence[Subscription]) -> None:
        labels = {inbox.label for inbox in asking}
        try:
            found = {status.label: status for status in self._ask(labels.pop() if len(labels) == 1 else None)}
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised by everybody who waits
            news = StatusUpdate(None, error)
            for inbox in asking:
                inbox.tell(news)
            return
        with self._changed:
            inboxes = tuple(self._inboxes)
        for inbox in inboxes:
            # Who came while the market was asked is told what it says of an instance, not that it says nothing.
            if inbox.label in found or inbox in asking:
                inbox.tell(StatusUpdate(found.get(inbox.label)))
