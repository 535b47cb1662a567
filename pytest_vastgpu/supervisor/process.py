"""The supervisor process. Its argument is the listening descriptor; it reads settings and secrets from standard input.

It ends when the pytest process that started it hangs up or dies, or on a signal. Before it ends, it gives back
everything that it has rented, and reports what cannot be destroyed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import Empty
from queue import SimpleQueue

from pytest_vastgpu.client.calls import Closing
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.core import child
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.servers.base import by_name
from pytest_vastgpu.supervisor.adapter_process import AdapterProcess
from pytest_vastgpu.supervisor.callbacks import HookClient
from pytest_vastgpu.supervisor.callbacks import RemoteAdapter
from pytest_vastgpu.supervisor.callbacks import RemoteHooks
from pytest_vastgpu.supervisor.event_outbox import EventOutbox
from pytest_vastgpu.supervisor.ledger.run_directory import make_run_directory
from pytest_vastgpu.supervisor.ledger.run_directory import runs_dir
from pytest_vastgpu.supervisor.rpc_server import Caller
from pytest_vastgpu.supervisor.rpc_server import RpcServer
from pytest_vastgpu.supervisor.run import Run
from pytest_vastgpu.supervisor.session import Session

OWNER_LOOK_S = 1.0
"""Pause between two checks whether the pytest process lives; the end of its connection is noticed at once."""
LOG = "supervisor.log"
"""Name of the log file in the run's directory."""
FETCHED_WITHIN_S = 30.0
"""How long it waits, once everything is given back, until pytest has taken the summary and hung up."""
COLLECTED_WITHIN_S = 60.0
"""How long it waits until a connected worker reports its tests. Without that, nothing is rented in advance."""
_log = logging.getLogger(__name__)


class Process:
    """The supervisor. Implements :class:`~pytest_vastgpu.supervisor.rpc_server.RpcService` for test processes."""

    def __init__(self, opening: Opening, listener: socket.socket) -> None:
        self._opening = opening
        self._owner = os.getppid()
        self._log = ""
        self._outbox = EventOutbox()
        told_after_s = opening.timeouts.hook_told_s
        self._hooks = HookClient(told_after_s, self._tell, opening.timeouts.hook_within_s)
        self._deciding = threading.Lock()
        self._settled = threading.Event()
        """Set once the run is opened, or has failed to open."""
        self._collected = threading.Event()
        self._decided = threading.Event()
        """Set once the collected tests are checked, too."""
        self._found = Collected()
        self._ending = CancelToken()
        """Cancelled when the run ends: from then on only giving back is waited for."""
        self._closed = threading.Event()
        """Set once everything is given back."""
        self._summary = Summary([], [], [], "")
        self._asked = False
        """Whether pytest waits for the summary."""
        self._hung_up = threading.Event()
        self._run: Run | None = None
        self._problem: VastGpuError | None = None
        self._directory = runs_dir() / secrets.token_hex(4)
        self._ends: SimpleQueue[None] = SimpleQueue()
        """Requests to end. An event would not do: a signal handler blocks if it interrupts the holder of its lock."""
        try:
            make_run_directory(self._directory.name)
            self._log = _keep_log(self._directory / LOG)
        except VastGpuError as problem:
            self._problem = problem
        within_s = opening.timeouts.adapter_within_s
        self._adapters = AdapterProcess(
            lambda: HookClient(told_after_s, self._tell, within_s), listener.fileno(), tell=self._tell
        )

    @property
    def secret(self) -> str:
        """The secret that each client must send first."""
        return self._opening.secret

    def _tell(self, text: str) -> None:
        if self._run is not None:
            self._run.tell(text)

    # ------------------------------------------------------------ test processes

    def session(self, caller: Caller) -> Session:
        """See :class:`RpcService`."""
        return Session(self, caller)

    def supervisor(self) -> Supervisor:
        """See :class:`RpcService`."""
        self._settled.wait()
        return Supervisor(os.getpid(), self._log)

    def end(self) -> None:
        """Request the end of the run. Safe in a signal handler."""
        self._ends.put(None)

    def hung_up(self, process: str, *, control: bool) -> None:
        """See :class:`RpcService`."""
        if control:
            self._hung_up.set()
            self.end()
        elif self._run is not None:
            self._run.pool.hung_up(process)

    def events(self) -> int:
        """See :class:`RpcService`."""
        return self._outbox.count

    def attach(self, role: str, sock: socket.socket) -> None:
        """See :class:`RpcService`."""
        if role == "events":
            self._outbox.send_all(sock)
        elif role == "hooks":
            self._hooks.attach(sock)

    # ------------------------------------------------------------------- the run

    def collected(self, found: Collected) -> None:
        """Take the tests that a process has collected; the first process's report counts."""
        with self._deciding:
            if not self._collected.is_set():
                self._found = found
                self._collected.set()

    def opened(self) -> None:
        """Wait until the run is open, check the collected tests, and begin to rent for them.

        :raises VastGpuError: one line; nothing was rented.
        """
        try:
            run = self.run_if_any()
            self._collected.wait(COLLECTED_WITHIN_S)
            self._ending.check()
            if self._found.problems:
                raise ConfigurationError("\n".join(self._found.problems))
            if unseen := [hook for hook in self._found.hooks if hook not in self._opening.hooks]:
                raise ConfigurationError(
                    f"{unseen[0].origin} implements {unseen[0].name}, which would never be called: with workers, hooks "
                    "are called in the controller, and that reads only the conftest files of the directories named on "
                    "the command line, of testpaths and of the root directory; move it to one of these"
                )
            each = self._opening.workers if self._opening.in_each else 1
            tests = {test: replace(expected, runs=expected.runs * each) for test, expected in self._found.tests.items()}
            run.pool.expect(tests, self._opening.workers)
        except VastGpuError as problem:
            self._problem = problem
            raise
        finally:
            self._decided.set()

    def run(self) -> Run:
        """Wait for the run, until the collected tests are checked.

        :raises VastGpuError: why there is no run.
        """
        self._decided.wait()
        return self.run_if_any()

    def run_if_any(self) -> Run:
        """Wait for the run, until it is opened.

        :raises VastGpuError: why there is no run.
        """
        self._settled.wait()
        if self._problem is not None:
            raise self._problem
        if self._run is None:
            raise Cancelled
        return self._run

    def close(self, within_s: float) -> Closing:
        """See :meth:`RunControl.close`. The main thread gives everything back."""
        self._asked = True
        self.end()
        if self._closed.wait(within_s):
            return Closing(self._summary, [])
        return Closing(None, self._run.waits_for() if self._run is not None else ["what is being opened"])

    # ------------------------------------------------------------------- the life

    def live(self, environ: Mapping[str, str]) -> int:
        """Open the run, wait for its end, and close it.

        :param environ: The environment, secrets included.
        :returns: 0 if nothing is left that costs money, 1 otherwise.
        """
        # In a thread, so that the end does not wait for what is being opened. Nothing is rented before it is open.
        opening = threading.Thread(target=self._begin, args=(environ,), name="vastgpu-open", daemon=True)
        opening.start()
        self._await_end()
        self._ending.cancel()
        self._hooks.cancel()
        self._adapters.close()
        opening.join(self._opening.timeouts.leave_s)
        with self._deciding:
            self._settled.set()
        self._decided.set()
        if self._run is not None:
            self._run.close()
            self._summary = self._run.summary()
        self._outbox.close()
        self._closed.set()
        if self._asked:
            self._hung_up.wait(FETCHED_WITHIN_S)
        return 1 if self._summary.problems else 0

    def _await_end(self) -> None:
        # A fork of the pytest process may hold the connection open; our parent process id shows that pytest is gone.
        while os.getppid() == self._owner:
            with contextlib.suppress(Empty):
                self._ends.get(timeout=OWNER_LOOK_S)
                return

    def _begin(self, environ: Mapping[str, str]) -> None:
        """Open the run."""
        run: Run | None = None
        try:
            if self._problem is None:
                run = self._open(environ)
        except Cancelled:
            pass
        except VastGpuError as problem:
            self._problem = problem
        except BaseException as error:  # noqa: BLE001 - raised in the clients that wait for the run
            if not self._ending.cancelled:
                _log.exception("the run cannot be opened")
                text = (
                    f"{type(error).__name__}: {error} (a defect of pytest-vastgpu: please report it; see {self._log})"
                )
                self._problem = VastGpuError(text)
        with self._deciding:
            if not self._settled.is_set():  # else the run has ended; this process is about to, with all that it opened
                self._run = run
                self._settled.set()

    def _open(self, environ: Mapping[str, str]) -> Run:
        ours = [(RemoteAdapter(offer, self._adapters), offer.origin) for offer in self._adapters.offers()]
        theirs = [(RemoteAdapter(offer, self._hooks), offer.origin) for offer in self._opening.adapters]
        plugins = RemoteHooks(self._hooks, frozenset(hook.name for hook in self._opening.hooks))
        known = by_name([*ours, *theirs])
        put, show = self._outbox.put, self._outbox.put_waits
        return Run.open(self._opening, environ, self._directory, known, plugins, put, ending=self._ending, show=show)


def _keep_log(path: Path) -> str:
    """Redirect this process's standard error into a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return str(path)


def main() -> int:
    """Run the supervisor.

    :returns: See :meth:`Process.live`.
    """
    listener = socket.socket(fileno=int(sys.argv[1]))
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # a dump holds keys
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(0, "rb", buffering=0, closefd=False) as pipe:
        told = pipe.readline()
        if not told:
            return 0  # the process that started this one has died
        process = Process(decode(Opening, json.loads(told)), listener)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: process.end())
        secret = pipe.read()
        if not secret:
            return 0
        environ = {**os.environ, **json.loads(secret)}
    child.close_input()
    server = RpcServer(listener, process.secret, process)
    try:
        return process.live(environ)
    finally:
        server.close()
