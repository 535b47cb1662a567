"""Rents hosts, starts workers there, looks at hosts and gives them back: what takes time, each in a thread of its own.

What comes of it is put into the session's queue, where the events of workers are, too.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.plugin.on_host import losses
from pytest_vastgpu.plugin.on_host import pipes
from pytest_vastgpu.plugin.on_host.about import About
from pytest_vastgpu.plugin.on_host.gateways import BROKEN
from pytest_vastgpu.plugin.on_host.gateways import Gateways
from pytest_vastgpu.plugin.on_host.hosts import Host

LOOK_S = 15.0
"""A host that has been silent for so long is looked at: a network that swallows everything ends no connection."""
END_WITHIN_S = 10.0
"""Time limit for the workers of a host to end: xdist's own."""

Put = Callable[[tuple[str, dict[str, Any]]], None]


@dataclass(eq=False)
class Rented:
    """A host that is ours, and the connection to it."""

    host: Host
    gateways: Gateways
    heard: float = 0.0
    """When one of its workers last said something, on the monotonic clock."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set once it is lost, or given back."""
    looking: threading.Lock = field(default_factory=threading.Lock)
    ending: losses.Ending | None = None
    """Why it, or the connection to it, is lost."""

    @property
    def name(self) -> str:
        """The name of its place: ``host 1``."""
        return self.host.name


class Fleet:
    """The hosts of a run.

    :param wanted: What to rent for each place, by name.
    :param put: Takes an event of xdist's form: ``hostready``, ``hostfailed``, ``hostlost`` or ``looked``.
    """

    def __init__(
        self, leases: RunControl, listener: Listener, wanted: Mapping[str, Workload], workers_each: int, put: Put
    ) -> None:
        self.before_giving_back: list[Callable[[Rented], None]] = []
        """Called for each host that is not lost, once its workers have ended, before it is given back."""
        self._leases = leases
        self._listener = listener
        self._wanted = wanted
        self._each = workers_each
        self._put = put
        self._ids = itertools.count()
        self._rented: list[Rented] = []
        self._leaving: list[threading.Thread] = []
        self._closing = threading.Lock()
        self._closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="vastgpu-")
        self.remove = self._folder.cleanup

    def rent(self, name: str) -> None:
        """Rent a host for a place, or find the way to the one that is there."""
        self._thread(self._rent, name)

    def start(self, rented: Rented, workers: int) -> None:
        """Start more workers on a host."""
        self._thread(self._start, rented, workers)

    def look(self, rented: Rented, node: object, error: object) -> None:
        """Find out why a worker has ended."""
        self._thread(lambda: self._put(("looked", {"node": node, "error": error, "ending": self._judge(rented)})))

    def forget(self, rented: Rented) -> None:
        """A host is lost, or the connection to it is."""
        rented.over.set()
        rented.gateways.abandon()

    def give_back(self, rented: Rented) -> None:
        """End a host's workers, then give it back."""
        rented.over.set()
        self._leaving.append(self._thread(self._give_back, rented))

    def leave(self, name: str) -> None:
        """Give a host back to which there is no connection any more."""
        self._thread(self._finish, name)

    def end(self) -> None:
        """End all workers. What is rented is not used any more."""
        with self._closing:
            self._closed = True
        for rented in self._rented:
            if not rented.over.is_set():
                self.give_back(rented)
        ends = time.monotonic() + END_WITHIN_S
        try:
            for thread in self._leaving:
                thread.join(max(0.0, ends - time.monotonic()))
        finally:  # also where Ctrl-C ends the waiting
            for rented in self._rented:
                rented.gateways.abandon()

    # ------------------------------------------------------------- threads

    def _thread(self, run: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=run, args=arguments, name="vastgpu-host", daemon=True)
        thread.start()
        return thread

    def _rent(self, name: str) -> None:
        workload = self._wanted[name]
        try:
            self._leases.done(name)  # of one that was lost
            lease = self._leases.acquire(name, workload, False)
            said = self._leases.run(lease.label, f"cat .vastgpu/work/{environment.ABOUT}", 30.0)  # type: ignore[attr-defined]
            host = Host(name, lease, About.parse(said.stdout), self._each)
        except (VastGpuError, Cancelled, ValueError) as error:
            self._put(("hostfailed", {"name": name, "error": error}))
            return
        way = pipes.to_proxy(host, self._listener.address, Path(self._folder.name))
        with self._closing:
            if self._closed:
                return
            rented = Rented(host, Gateways(host, way), time.monotonic())
            self._rented.append(rented)
        try:
            rented.gateways.connect()
        except BROKEN as error:
            self._does_not_start(rented, error)
            return
        self._start(rented, host.workers)
        self._watch(rented)

    def _start(self, rented: Rented, workers: int) -> None:
        names = [f"gw{next(self._ids)}" for _ in range(workers)]
        try:
            gateways = rented.gateways.start(names)
        except BROKEN as error:
            self._does_not_start(rented, error)
        else:
            self._put(("hostready", {"rented": rented, "gateways": gateways}))

    def _does_not_start(self, rented: Rented, error: BaseException) -> None:
        ending = self._judge(rented)
        if ending.excuses:
            self._put(("hostlost", {"rented": rented, "ending": ending}))
            return
        text = f"{rented.host.python} does not start there: {type(error).__name__}: {error}"
        self._put(("hostfailed", {"name": rented.name, "error": VastGpuError(text)}))
        self.give_back(rented)

    def _watch(self, rented: Rented) -> None:
        """Look at a host whenever it is silent."""
        while not rented.over.wait(LOOK_S):
            if time.monotonic() - rented.heard < LOOK_S:
                continue
            if (ending := self._judge(rented)).excuses:
                self._put(("hostlost", {"rented": rented, "ending": ending}))
                return

    def _judge(self, rented: Rented) -> losses.Ending:
        with rented.looking:
            if rented.ending is not None:
                return rented.ending
            answers = rented.gateways.answers()
            try:
                fate = self._leases.fate(rented.host.lease.label, rented.host.lease.mark)  # type: ignore[attr-defined]
                ending = losses.judge(answers=answers, fate=fate)
            except (VastGpuError, Cancelled) as error:
                ending = losses.gone(str(error))
            if ending.excuses:
                rented.ending = ending
            return ending

    def _give_back(self, rented: Rented) -> None:
        rented.gateways.end(END_WITHIN_S)
        try:
            for fetch in self.before_giving_back:
                fetch(rented)
        finally:
            self._finish(rented.name)

    def _finish(self, name: str) -> None:
        with contextlib.suppress(VastGpuError, Cancelled):  # its owner is gone; the end of the run says so
            self._leases.finished(name)
