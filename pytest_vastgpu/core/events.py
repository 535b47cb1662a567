"""The event log: one line for each step of each instance. All reports are made from it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.model import State

EVENTS = "events.jsonl"
"""The file, in the run's directory."""
VERSION = 1
"""Of the lines of the file; see ``reporting/schemas/events.json``. Keys may be added without another version."""
_log = logging.getLogger("pytest_vastgpu")


@dataclass(frozen=True)
class Event:
    """One step of one instance."""

    label: str
    """The attempt; empty for an event of the whole run."""
    state: State | None
    """The instance's new state; None for an event of the whole run."""
    text: str
    """What happened, for people; no secret."""
    facts: dict[str, object] = field(default_factory=dict)
    """The same facts for programs."""
    time: float = field(default_factory=time.time)
    """Epoch seconds."""
    verbatim: bool = False
    """Whether the text is what a process of the user's has printed, to be shown as it is, however quiet the run is."""
    detail: bool = False
    """Whether it is shown only with ``-v``."""
    silent: bool = False
    """Whether it is for reports alone, and never shown while a run goes on."""


Listener = Callable[[Event], None]


class EventLog:
    """Appends events to ``events.jsonl`` in the run's directory and tells every listener.

    Any thread may write, and begin or end to listen. Listeners are called in the writer's thread and must be quick.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / EVENTS
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call a listener with every later event, once."""
        with self._lock:
            if listener not in self._listeners:
                self._listeners = [*self._listeners, listener]

    def unlisten(self, listener: Listener) -> None:
        """Call a listener no more."""
        with self._lock:
            self._listeners = [other for other in self._listeners if other != listener]

    def write(self, event: Event) -> None:
        """Append one event. The listeners get it even if the file cannot be written, for example on a full disk.

        Market and hosts supply part of its text and facts, so this makes both safe for every reader.
        """
        facts = {name: sanitize.clean(value) for name, value in event.facts.items()}
        event = replace(event, text=sanitize.line(event.text), facts=facts)
        row: dict[str, object] = {"version": VERSION}  # in each line: files may be joined, and cut
        row |= {"time": round(event.time, 3), "label": event.label, "state": event.state, "text": event.text}
        with self._lock:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**row, **event.facts}, default=str) + "\n")
            except OSError as error:
                _log.warning("the event log %s cannot be written: %s", self.path, error)
        if not event.silent:
            _log.info("%s %s", event.label, event.text)
        for listener in self._listeners:
            listener(event)
