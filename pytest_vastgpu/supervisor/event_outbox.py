"""Queue of events for pytest. The supervisor never waits for pytest: events over the limit are dropped and counted.

What tests wait for goes the same way. Only the newest such report is kept, and no file has it.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.reporting.waiting import Waiting

MOST = 10_000
"""Most events that wait to be sent."""
LAST_S = 5.0
"""How long the end of a run waits until the last events are sent."""


class EventOutbox:
    """Keeps events until they are sent. Any thread may add one, and never waits.

    :param most: Most events kept.
    :param last_s: How long the end of a run waits until the last events are sent.
    """

    def __init__(self, most: int = MOST, last_s: float = LAST_S) -> None:
        self._most = most
        self._last_s = last_s
        self._waiting: deque[tuple[int, Event]] = deque()
        self._waits: Sequence[Waiting] | None = None
        """What tests wait for, where that is still to be sent."""
        self._changed = threading.Condition()
        self._lost = 0
        self.count = 0
        """Number of events so far, including dropped ones."""
        self._closed = False
        self._sent = threading.Event()

    def put(self, event: Event) -> None:
        """Add an event, unless it is for reports alone."""
        if event.silent:
            return
        with self._changed:
            self.count += 1
            if len(self._waiting) >= self._most:
                self._lost += 1
            else:
                self._waiting.append((self.count, event))
            self._changed.notify_all()

    def put_waits(self, waits: Sequence[Waiting]) -> None:
        """Take what tests wait for now, in place of an older report that is not sent yet."""
        with self._changed:
            self._waits = waits
            self._changed.notify_all()

    def close(self) -> None:
        """Accept no more events, and wait a little until all are sent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._sent.wait(self._last_s)

    def send_all(self, sock: socket.socket) -> None:
        """Send the waiting events and all later ones on a connection, until the outbox is closed.

        :raises OSError: if the other side is gone.
        """
        try:
            while (found := self._next()) is not None:
                messages.send(sock, found)
        finally:
            self._sent.set()  # also where the other side is gone

    def _next(self) -> dict[str, object] | None:
        """The next message; None: there will be no other."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._lost or self._closed or self._waits is not None,
            )
            if self._waiting:
                return _message(*self._waiting.popleft())
            if self._lost:
                lost, self._lost = self._lost, 0
                text = (
                    f"{lost} events are not shown here, since pytest did not take them in time; events.jsonl has them"
                )
                return _message(self.count, Event("", None, text))
            if self._closed or self._waits is None:
                return None
            waits, self._waits = self._waits, None
            return {"waits": encode(list(waits))}


def _message(number: int, event: Event) -> dict[str, object]:
    event = replace(event, facts={})  # the facts are for programs, which read them in the file
    return {"number": number, "event": encode(event)}
