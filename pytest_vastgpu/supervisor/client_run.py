"""One pytest run as a client of the supervisor: its connections, its tests, its hooks and its end."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pytest_vastgpu.client.calls import Closing
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import PipeRequest
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.supervisor.callbacks import HookClient
from pytest_vastgpu.supervisor.callbacks import RemoteAdapter
from pytest_vastgpu.supervisor.callbacks import RemoteHooks
from pytest_vastgpu.supervisor.event_outbox import EventOutbox
from pytest_vastgpu.supervisor.rpc_server import Caller
from pytest_vastgpu.supervisor.rpc_server import RpcServer
from pytest_vastgpu.supervisor.run import Run
from pytest_vastgpu.supervisor.session import Session
from pytest_vastgpu.supervisor.watched_process import WatchedProcess

COLLECTED_WITHIN_S = 60.0
"""How long it waits until a connected worker reports its tests. Without that, nothing is rented in advance."""
FETCHED_WITHIN_S = 30.0
"""How long the end waits, once everything is given back, until pytest has taken the summary and hung up."""


class Owner(Protocol):
    """The supervisor, as one of its runs sees it."""

    log: str
    """Path of its log; empty if it has none."""

    def opened(self) -> Run:
        """Wait until the supervisor can rent.

        :raises VastGpuError: it cannot.
        :raises Cancelled: it is ending.
        """
        ...

    def leaves(self, client: ClientRun) -> None:
        """A run is over: give back what it has left. Does not wait."""
        ...


class ClientRun:
    """A pytest run. Implements :class:`~pytest_vastgpu.supervisor.rpc_server.RpcService` for its processes.

    :param listener: Where the run's processes connect; each begins with the secret in ``opening``.
    :param directory: The run's own directory.
    :param pid: The process that runs pytest, or its controller; 0 if not known.
    """

    def __init__(self, owner: Owner, opening: Opening, listener: socket.socket, directory: Path, pid: int = 0) -> None:
        self.id = opening.run
        self.opening = opening
        self.directory = directory
        self.process = WatchedProcess(pid)
        """A fork of it may hold the connection open when it is gone."""
        self._owner = owner
        self.outbox = EventOutbox()
        self._hooks = HookClient(opening.timeouts.hook_told_s, self.tell, opening.timeouts.hook_within_s)
        self.plugins = RemoteHooks(self._hooks, frozenset(hook.name for hook in opening.hooks))
        self.adapters: list[tuple[Adapter, str]] = [
            (RemoteAdapter(offer, self._hooks), offer.origin) for offer in opening.adapters
        ]
        """The adapters that the run brings, each with its origin."""
        self._deciding = threading.Lock()
        self._collected = threading.Event()
        self._decided = threading.Event()
        """Set once the collected tests are checked."""
        self._found = Collected()
        self._problem: VastGpuError | None = None
        self._over = threading.Event()
        """Set once it gets no instance any more."""
        self._closed = threading.Event()
        """Set once everything that it has left is given back."""
        self._summary = Summary([], [], [], "")
        self._asked = False
        """Whether pytest waits for the summary."""
        self._hung_up = threading.Event()
        self._run: Run | None = None
        self._listener = listener
        self._server: RpcServer | None = None
        self._closing = threading.Lock()

    def serves(self) -> None:
        """Accept connections from now on. A run that is refused uses its socket for another supervisor."""
        self._server = RpcServer(self._listener, self.opening.secret, self)

    def tell(self, text: str) -> None:
        """Tell this run alone."""
        self.outbox.put(Event("", None, text))

    # ------------------------------------------------------------ RpcService

    def session(self, caller: Caller) -> Session:
        """See :class:`RpcService`."""
        return Session(self, caller)

    def supervisor(self) -> Supervisor:
        """See :class:`RpcService`."""
        with contextlib.suppress(VastGpuError, Cancelled):
            self._owner.opened()
        return Supervisor(os.getpid(), self._owner.log)

    def hung_up(self, process: str, *, control: bool) -> None:
        """See :class:`RpcService`."""
        if control:
            self._hung_up.set()
            self._owner.leaves(self)
        elif self._run is not None:
            self._run.pool.hung_up(process)

    def events(self) -> int:
        """See :class:`RpcService`."""
        return self.outbox.count

    def attach(self, role: str, sock: socket.socket) -> None:
        """See :class:`RpcService`."""
        if role == "events":
            self.outbox.send_all(sock)
        elif role == "hooks":
            self._hooks.attach(sock)
        elif role == "pipe":
            self._converse(sock)

    def _converse(self, sock: socket.socket) -> None:
        """Join a connection to a command on an instance. The other side learns of every failure by its end."""
        try:
            asked = decode(PipeRequest, messages.receive(sock))
            self.run().access.converse(asked, sock, self.tell, self._show)
        except Cancelled:
            pass  # the run is ending
        except (VastGpuError, ValueError) as error:
            self.tell(sanitize.line(f"a host cannot run tests: {error}"))

    def _show(self, text: str) -> None:
        self.outbox.put(Event("", None, sanitize.line(text), verbatim=True))

    # ----------------------------------------------------------------- calls

    def collected(self, found: Collected) -> None:
        """Take the tests that a process has collected; the first process's report counts."""
        with self._deciding:
            if not self._collected.is_set():
                self._found = found
                self._collected.set()

    def opens(self) -> None:
        """Wait until the supervisor can rent, check the collected tests, and begin to rent for them.

        :raises VastGpuError: one line; nothing was rented.
        """
        try:
            run = self._owner.opened()
            self._collected.wait(COLLECTED_WITHIN_S)
            if self._over.is_set():
                raise Cancelled
            if self._found.problems:
                raise ConfigurationError("\n".join(self._found.problems))
            if unseen := [hook for hook in self._found.hooks if hook not in self.opening.hooks]:
                raise ConfigurationError(
                    f"{unseen[0].origin} implements {unseen[0].name}, which would never be called: with workers, hooks "
                    "are called in the controller, and that reads only the conftest files of the directories named on "
                    "the command line, of testpaths and of the root directory; move it to one of these"
                )
            each = self.opening.workers if self.opening.in_each else 1
            tests = {test: replace(expected, runs=expected.runs * each) for test, expected in self._found.tests.items()}
            run.pool.expect(self.id, tests)
        except VastGpuError as problem:
            self._problem = problem
            raise
        finally:
            self._decided.set()

    def run(self) -> Run:
        """Wait until the collected tests are checked.

        :raises VastGpuError: why nothing can be rented.
        """
        self._decided.wait()
        if self._problem is not None:
            raise self._problem
        return self._owner.opened()

    def close(self, within_s: float) -> Closing:
        """See :meth:`RunControl.close`."""
        self._asked = True
        self._owner.leaves(self)
        if self._closed.wait(within_s):
            return Closing(self._summary, [])
        return Closing(None, self._run.waits_for(self.id) if self._run is not None else ["what is being opened"])

    # -------------------------------------------------------------- its life

    def joins(self, run: Run) -> None:
        """The supervisor can rent: from now on for this run, too."""
        run.join(self.opening, self.directory, self.outbox.put, self.outbox.put_waits)
        self._run = run

    def stops(self) -> None:
        """It is over: its hooks are called no more, and what waits for its tests ends."""
        self._over.set()
        self._collected.set()
        self._decided.set()
        self._hooks.cancel()

    def ends(self, run: Run) -> bool:
        """Give back what it has left, where other runs may follow; returns whether all of that is gone."""
        self.stops()
        return run.leave(self.id, lambda seconds: not self._closed.wait(seconds))

    def closes(self) -> None:
        """Everything that it has left is given back: hand the summary over, and end its connections. Idempotent."""
        with self._closing:
            if self._closed.is_set():
                return
            try:
                if self._run is not None:
                    self._summary = self._run.summary(self.id)
            finally:
                self.outbox.close()
                self._closed.set()
                if self._asked:
                    self._hung_up.wait(FETCHED_WITHIN_S)
                self.process.close()
                if self._server is not None:
                    self._server.close()
