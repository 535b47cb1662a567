"""Rents hosts, starts workers there, looks at hosts and gives them back: what takes time, each in a thread of its own.

What comes of it is put into the session's queue, where the events of workers are, too.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_vastgpu.client.calls import InstanceCalls
from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.plugin.on_host import losses
from pytest_vastgpu.plugin.on_host import pipes
from pytest_vastgpu.plugin.on_host import places
from pytest_vastgpu.plugin.on_host.about import About
from pytest_vastgpu.plugin.on_host.gateways import BROKEN
from pytest_vastgpu.plugin.on_host.gateways import Gateways
from pytest_vastgpu.plugin.on_host.gateways import StartsNot
from pytest_vastgpu.plugin.on_host.hosts import Host
from pytest_vastgpu.plugin.on_host.secret_files import SecretFiles

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
    calls: InstanceCalls
    turn: int
    """How often a host had been asked for, for its place."""
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
    :param put: Takes an event of xdist's form: ``hostready``, ``hostfailed``, ``hostlost``, ``looked`` or ``broken``.
    :param tell: Shows a line while the run goes on.
    """

    def __init__(
        self,
        leases: RunControl,
        listener: Listener,
        wanted: Mapping[str, Workload],
        workers_each: int,
        put: Put,
        tell: Callable[[str], None],
        timeouts: Timeouts,
    ) -> None:
        self.before_giving_back: list[Callable[[Rented], None]] = []
        """Called for each host that is not lost, once its workers have ended, before it is given back."""
        self._leases = leases
        self._listener = listener
        self._wanted = wanted
        self._each = workers_each
        self._put = put
        self._tell = tell
        self._timeouts = timeouts
        self._ids = itertools.count()
        self._turns: Counter[str] = Counter()
        """How often a host was asked for, by the name of the place."""
        self._asking = {name: threading.Lock() for name in wanted}
        """For each place, held while it is made free: what comes late must not meet the next host of that name."""
        self._rented: list[Rented] = []
        self._leaving: list[threading.Thread] = []
        self._closing = threading.Lock()
        self._closed = False
        self._files = SecretFiles(state_directory() / "wrappers")
        self.remove = self._files.remove

    def rent(self, name: str) -> None:
        """Rent a host for a place, or find the way to the one that is there."""
        self._turns[name] += 1
        self._thread(self._rent, name, self._turns[name])

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

    def leave(self, rented: Rented) -> None:
        """Give a host back that lives, and to which the connection is lost."""
        self._leaving.append(self._thread(self._finish, rented))

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
        def runs() -> None:
            try:
                run(*arguments)
            except BaseException as error:
                if self._closed:  # nobody takes events any more: Python prints it
                    raise
                self._put(("broken", {"error": error}))

        thread = threading.Thread(target=runs, name="vastgpu-host", daemon=True)
        thread.start()
        return thread

    @contextlib.contextmanager
    def _waits(self, rented: Rented) -> Iterator[None]:
        """Say for what is waited, if it takes long."""
        most_s, told_s = self._timeouts.host_python_s, self._timeouts.host_python_told_s
        text = f"{rented.name}: waits for {rented.host.python} to start there, at most {most_s:.0f} s"
        timer = threading.Timer(told_s, self._tell, (text,))
        timer.name, timer.daemon = "vastgpu-host-told", True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _rent(self, name: str, turn: int) -> None:
        workload = self._wanted[name]
        try:
            with self._asking[name]:
                self._leases.done(name)  # of one that was lost
            lease = self._leases.acquire(name, workload, False)
            calls = InstanceCalls(self._leases, lease)
            said = calls.run(self._first_words(lease.label), 60.0)
            host = Host(name, lease, About.parse(said.stdout), self._each)
        except (VastGpuError, Cancelled, ValueError) as error:
            self._put(("hostfailed", {"name": name, "error": error}))
            return
        way = pipes.to_proxy(host, self._listener.address, self._files.path)
        with self._closing:
            if self._closed:
                return
            gateways = Gateways(host, way, self._timeouts.host_python_s)
            rented = Rented(host, gateways, calls, turn)
            self._rented.append(rented)
        try:
            with self._waits(rented):
                rented.gateways.connect()
        except (*BROKEN, StartsNot) as error:
            self._does_not_start(rented, error)
            return
        self._start(rented, host.workers)
        self._watch(rented)

    def _first_words(self, label: str) -> str:
        """Ask what is known of a host's environment; and on a warm one, remove what tests of earlier runs have left."""
        ask = f"cd .vastgpu/work && cat {environment.ABOUT}"
        ours = any(each.host.lease.label == label for each in self._rented)  # to be fetched yet
        return ask if ours else f"{ask} && rm -rf {places.TMP} {places.BEGAN}*"

    def _start(self, rented: Rented, workers: int) -> None:
        names = [f"gw{next(self._ids)}" for _ in range(workers)]
        try:
            with self._waits(rented):
                gateways = rented.gateways.start(names)
        except (*BROKEN, StartsNot) as error:
            self._does_not_start(rented, error)
        else:
            self._put(("hostready", {"rented": rented, "gateways": gateways}))

    def _does_not_start(self, rented: Rented, error: Exception) -> None:
        ending = self._judge(rented)
        silent = isinstance(error, StartsNot)
        if ending.excuses and not (silent and ending.kind is losses.Kind.CONNECTION):  # no proxy has begun to answer
            self._put(("hostlost", {"rented": rented, "ending": ending}))
            return
        text = f"{rented.host.python} does not start there: {error if silent else f'{type(error).__name__}: {error}'}"
        self.give_back(rented)  # before it is told: the run may end at once, and gives back what is not over
        self._put(("hostfailed", {"name": rented.name, "error": VastGpuError(text)}))

    def _watch(self, rented: Rented) -> None:
        """Look at a host whenever it is silent."""
        seen = rented.gateways.arrived
        while not rented.over.wait(LOOK_S):
            before, seen = seen, rented.gateways.arrived
            if before != seen:
                continue
            if (ending := self._judge(rented)).excuses:
                self._put(("hostlost", {"rented": rented, "ending": ending}))
                return
            seen = rented.gateways.arrived

    def _judge(self, rented: Rented) -> losses.Ending:
        with rented.looking:
            if rented.ending is not None:
                return rented.ending
            answers = rented.gateways.answers()
            try:
                ending = losses.judge(answers=answers, fate=rented.calls.fate(rented.host.lease.mark))
            except (VastGpuError, Cancelled) as error:
                ending = losses.gone(str(error))
            if ending.excuses:
                rented.ending = ending
            return ending

    def _give_back(self, rented: Rented) -> None:
        rented.gateways.end(END_WITHIN_S)
        self._finish(rented)

    def _finish(self, rented: Rented) -> None:
        try:
            for fetch in self.before_giving_back:
                fetch(rented)
        finally:
            with self._asking[rented.name], contextlib.suppress(VastGpuError, Cancelled):  # the end of the run says so
                if self._turns[rented.name] == rented.turn:  # otherwise its place was asked for again, and it with it
                    self._leases.finished(rented.name)
