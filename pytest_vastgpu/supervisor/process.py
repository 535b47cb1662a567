"""The supervisor process: ``main(listening descriptor)``, told on standard input what it is to do.

It ends when the process that started it hangs up, however that came about, or when it is told to by a signal; and never
before everything that it has rented is given back, or is known to resist.
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

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.core import child
from pytest_vastgpu.core.clock import Cancelled
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
"""How often it looks whether the process that started it is there, beside waiting for the line's end."""
LOG = "supervisor.log"
"""In the run's directory."""
COLLECTED_WITHIN_S = 60.0
"""How long it waits to hear what is needed from a worker that has connected; without, nothing is rented in advance."""
_log = logging.getLogger(__name__)


class Process:
    """Implements :class:`~pytest_vastgpu.supervisor.rpc_server.RpcService`, what test processes talk to."""

    def __init__(self, opening: Opening, listener: socket.socket) -> None:
        self._opening = opening
        self._owner = os.getppid()
        self._log = ""
        self._outbox = EventOutbox()
        told_after_s = opening.timeouts.hook_told_s
        self._hooks = HookClient(told_after_s, self._tell)
        self._deciding = threading.Lock()
        self._settled = threading.Event()
        """Set once it is known whether there is a run."""
        self._collected = threading.Event()
        self._decided = threading.Event()
        """Set once what was collected is checked, too."""
        self._found = Collected()
        self._run: Run | None = None
        self._problem: VastGpuError | None = None
        self._directory = runs_dir() / secrets.token_hex(4)
        self._ends: SimpleQueue[None] = SimpleQueue()
        """Reasons to end. No event: a signal may come while its thread holds an event's lock, and would wait for it."""
        try:
            make_run_directory(self._directory.name)
            self._log = _keep_log(self._directory / LOG)
        except VastGpuError as problem:
            self._problem = problem
        self._adapters = AdapterProcess(HookClient(told_after_s, self._tell), listener.fileno())

    @property
    def secret(self) -> str:
        """What everybody who connects has to say."""
        return self._opening.secret

    def _tell(self, text: str) -> None:
        if self._run is not None:
            self._run.tell(text)

    # ------------------------------------------------------------ test processes

    def session(self, caller: Caller) -> Session:
        """See :class:`Host`."""
        return Session(self, caller)

    def supervisor(self) -> Supervisor:
        """See :class:`Host`."""
        self._settled.wait()
        return Supervisor(os.getpid(), self._log)

    def end(self) -> None:
        """Have the run ended, soon. Also a signal's handler may ask for it."""
        self._ends.put(None)

    def hung_up(self, process: str, *, control: bool) -> None:
        """See :class:`Host`."""
        if control:
            self.end()
        elif self._run is not None:
            self._run.pool.hung_up(process)

    def events(self) -> int:
        """See :class:`Host`."""
        return self._outbox.count

    def attach(self, role: str, sock: socket.socket) -> None:
        """See :class:`Host`."""
        if role == "events":
            self._outbox.send_all(sock)
        elif role == "hooks":
            self._hooks.attach(sock)

    # ------------------------------------------------------------------- the run

    def collected(self, found: Collected) -> None:
        """What a process has collected; the first one's word is kept."""
        with self._deciding:
            if not self._collected.is_set():
                self._found = found
                self._collected.set()

    def opened(self) -> None:
        """Wait until there is a run, check what was collected, and begin to rent it.

        :raises VastGpuError: one line; nothing was rented.
        """
        run = self.run_if_any()
        self._collected.wait(COLLECTED_WITHIN_S)
        try:
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
        """The run, once it is decided that there is one.

        :raises VastGpuError: why there is none.
        """
        self._decided.wait()
        return self.run_if_any()

    def run_if_any(self) -> Run:
        """The run that was opened.

        :raises VastGpuError: why there is none.
        """
        self._settled.wait()
        if self._problem is not None:
            raise self._problem
        if self._run is None:
            raise Cancelled
        return self._run

    def close(self) -> Summary:
        """Give everything back; what the run has come to."""
        self._settled.wait()
        self._hooks.cancel()
        self._adapters.close()
        if self._run is None:
            return Summary([], [], [], "")
        self._run.close()
        self._outbox.close()
        return self._run.summary()

    # ------------------------------------------------------------------- the life

    def live(self, environ: Mapping[str, str]) -> int:
        """Open the run, and see to its end.

        :param environ: The environment, secrets included.
        :returns: 0 if nothing is left that costs money, 1 otherwise.
        """
        try:
            if self._problem is None:
                self._run = self._open(environ)
        except VastGpuError as problem:
            self._problem = problem
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
            _log.exception("the run cannot be opened")
            text = f"{type(error).__name__}: {error} (a defect of pytest-vastgpu: please report it; see {self._log})"
            self._problem = VastGpuError(text)
        self._settled.set()
        # A copy of that process which nobody has told Python of may hold the line open; whose child we are says more.
        while os.getppid() == self._owner:
            with contextlib.suppress(Empty):
                self._ends.get(timeout=OWNER_LOOK_S)
                break
        self._decided.set()
        return 1 if self.close().problems else 0

    def _open(self, environ: Mapping[str, str]) -> Run:
        ours = [(RemoteAdapter(offer, self._adapters), offer.origin) for offer in self._adapters.offers()]
        theirs = [(RemoteAdapter(offer, self._hooks), offer.origin) for offer in self._opening.adapters]
        plugins = RemoteHooks(self._hooks, frozenset(hook.name for hook in self._opening.hooks))
        known = by_name([*ours, *theirs])
        return Run.open(self._opening, environ, self._directory, known, plugins, self._outbox.put)


def _keep_log(path: Path) -> str:
    """Have everything that this process says on its standard error in a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return str(path)


def main() -> int:
    """Be the supervisor.

    :returns: see :meth:`Process.live`.
    """
    listener = socket.socket(fileno=int(sys.argv[1]))
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # there are keys in it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(0, "rb", buffering=0, closefd=False) as pipe:
        told = pipe.readline()
        if not told:
            return 0  # whoever started us died meanwhile
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
