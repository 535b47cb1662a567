"""The supervisor, loaded by :mod:`~pytest_vastgpu.supervisor.start`. Settings and secrets come on standard input.

It ends when the pytest process that started it hangs up or dies, or on a signal; with ``--vast-reuse``, when no run has
used what it keeps warm for too long. Before it ends, it gives back everything that it has rented, and reports what
cannot be destroyed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from queue import SimpleQueue

from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.core import child
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.adapter_process import AdapterProcess
from pytest_vastgpu.supervisor.callbacks import HookClient
from pytest_vastgpu.supervisor.callbacks import RemoteAdapter
from pytest_vastgpu.supervisor.client_run import ClientRun
from pytest_vastgpu.supervisor.client_runs import ClientRuns
from pytest_vastgpu.supervisor.composition import open_run
from pytest_vastgpu.supervisor.door import Door
from pytest_vastgpu.supervisor.ledger.run_directory import make_run_directory
from pytest_vastgpu.supervisor.ledger.run_directory import runs_dir
from pytest_vastgpu.supervisor.run import Run

OWNER_LOOK_S = 1.0
"""Pause between two checks whether the pytest process lives; the end of its connection is noticed at once."""
LOG = "supervisor.log"
"""Name of the log file in the run's directory."""
_log = logging.getLogger(__name__)


class Process:
    """The supervisor: opens what it rents with, serves the runs that there are, and ends.

    :param opening: What the run sends that has started it.
    """

    def __init__(self, opening: Opening, listener: socket.socket, market: LocalMarket) -> None:
        self._opening = opening
        self._market = market
        self._reuses = opening.settings.reuse > 0
        self._owner = os.getppid()
        self.log = ""
        """Path of its log; empty if it has none."""
        self._runs = ClientRuns()
        """The pytest runs that there are."""
        self._lock = threading.Lock()
        """Guards whether it is opened."""
        self._settled = threading.Event()
        """Set once the run is opened, or has failed to open."""
        self._ending = CancelToken()
        """Cancelled when it ends: from then on only giving back is waited for."""
        self._run: Run | None = None
        self._problem: VastGpuError | None = None
        self._directory = runs_dir() / opening.run
        self._requests: SimpleQueue[ClientRun | None] = SimpleQueue()
        """Runs that are over; None: this process shall end. An event would not do: a signal handler blocks if it
        interrupts the holder of its lock."""
        self._door: Door | None = None
        self._closed = threading.Event()
        """Set once everything is given back."""
        try:
            make_run_directory(self._directory.name)
            self.log = _keep_log(self._directory / LOG)
        except VastGpuError as problem:
            self._problem = problem
        told_after_s, within_s = opening.timeouts.hook_told_s, opening.timeouts.adapter_within_s
        self._adapters = AdapterProcess(
            lambda: HookClient(told_after_s, self._tell, within_s), listener.fileno(), tell=self._tell
        )

    def _tell(self, text: str) -> None:
        if self._run is not None:
            self._run.tell(text)

    def end(self) -> None:
        """Request the end. Safe in a signal handler."""
        self._requests.put(None)

    # ------------------------------------------------------------------ runs

    def admit(self, opening: Opening, listener: socket.socket) -> None:
        """Serve the run that has started this process; it connects to this socket."""
        client = ClientRun(self, opening, listener, runs_dir() / opening.run, self._owner)
        self._runs.add(client)
        client.serves()

    def joins(self, opening: Opening, listener: socket.socket, pid: int) -> None:
        """See :class:`~pytest_vastgpu.supervisor.door.Host`."""
        run = self.opened()
        make_run_directory(opening.run)
        client = ClientRun(self, opening, listener, runs_dir() / opening.run, pid)
        try:
            self._runs.add(client, lambda: client.joins(run))
        except BaseException:
            client.process.close()
            raise
        for each in run.warm():
            client.tell(each.told())
        client.serves()

    def end_unless_used(self) -> list[str]:
        """See :class:`~pytest_vastgpu.supervisor.door.Host`."""
        if not self._runs.end_if(lambda: True):
            return [client.id for client in self._runs.serving]
        self.end()
        return []

    def warm(self) -> list[Warm]:
        """See :class:`~pytest_vastgpu.supervisor.door.Host`."""
        return self._run.warm() if self._run is not None else []

    def await_end(self) -> list[str]:
        """See :class:`~pytest_vastgpu.supervisor.door.Host`."""
        self._closed.wait()
        problems = self._run.pool.problems if self._run is not None else []
        return [each.problem for each in problems]

    def opened(self) -> Run:
        """See :class:`~pytest_vastgpu.supervisor.client_run.Owner`."""
        self._settled.wait()
        if self._problem is not None:
            raise self._problem
        if self._run is None:
            raise Cancelled
        return self._run

    def leaves(self, client: ClientRun) -> None:
        """See :class:`~pytest_vastgpu.supervisor.client_run.Owner`."""
        self._requests.put(client)

    # ----------------------------------------------------------------- hooks

    def offers(self, run: str, offers: list[Offer], workload: Workload) -> list[Offer]:
        """Call the hooks of a run. See :class:`~pytest_vastgpu.supervisor.composition.Plugins`."""
        for client in self._runs.serving:
            if client.id == run:
                return client.plugins.offers(offers, workload)
        return offers

    def outcome(self, run: str, attempt: Attempt, workload: Workload) -> None:
        """Call the hooks of a run. See :class:`~pytest_vastgpu.supervisor.composition.Plugins`."""
        for client in self._runs.serving:
            if client.id == run:
                client.plugins.outcome(attempt, workload)

    # -------------------------------------------------------------- its life

    def live(self, environ: Mapping[str, str]) -> int:
        """Open the run, wait for its end, and close it.

        :param environ: The environment, secrets included.
        :returns: 0 if nothing is left that costs money, 1 otherwise.
        """
        # In a thread, so that the end does not wait for what is being opened. Nothing is rented before it is open.
        opening = threading.Thread(target=self._begin, args=(environ,), name="vastgpu-open", daemon=True)
        opening.start()
        self._serve()
        clients = self._runs.end()
        self._ending.cancel()
        for client in clients:
            client.stops()
        self._adapters.close()
        opening.join(self._opening.timeouts.leave_s)
        with self._lock:
            self._settled.set()
        if self._run is not None:
            self._run.close()
        if self._door is not None:
            self._door.close()
        self._closed.set()
        for client in clients:
            client.closes()
        if self._door is not None:
            self._door.answered(self._opening.timeouts.leave_s)
        return 1 if self._run is not None and self._run.pool.problems else 0

    def _serve(self) -> None:
        """Wait for the end, and have the runs leave that are over before."""
        while not self._is_alone():
            with contextlib.suppress(Empty):
                client = self._requests.get(timeout=OWNER_LOOK_S)
                if client is None or not self._stays_after(client):
                    return

    def _is_alone(self) -> bool:
        """Whether there is neither a run, nor an instance that waits for one, nor a user."""
        if not self._reuses:
            # A fork of the pytest process may hold the connection open; our parent process id shows that pytest is
            # gone.
            return os.getppid() != self._owner
        for client in self._runs.serving:
            if client.process.gone:
                self.leaves(client)
        unknown = self._door is not None and not self._door.is_found  # what it keeps warm would be forgotten
        return self._runs.end_if(
            lambda: unknown or self._runs.login_over or self._run is None or self._run.pool.is_of_no_use
        )

    def _stays_after(self, client: ClientRun) -> bool:
        """Whether this process goes on after a run."""
        if not self._reuses or self._run is None:
            return False
        if self._runs.serving == [client] and self._runs.login_over:
            return False
        if self._runs.leaves(client):
            threading.Thread(target=self._see_off, args=(client, self._run), name="vastgpu-leave", daemon=True).start()
        return True

    def _see_off(self, client: ClientRun, run: Run) -> None:
        try:
            if not client.ends(run):  # what cannot be given back is for the end of this process, and for the guard
                self.end_unless_used()
        except Exception:  # noqa: BLE001 - logged; pytest must not wait for ever
            _log.exception("what run %s has left cannot be given back", client.id)
            self.end_unless_used()
        finally:
            client.closes()
            self._runs.left(client)

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
                text = f"{type(error).__name__}: {error} (a defect of pytest-vastgpu: please report it; see {self.log})"
                self._problem = VastGpuError(text)
        with self._lock:
            if not self._settled.is_set():  # else the run has ended; this process is about to, with all that it opened
                self._run = run
                self._settled.set()

    def _open(self, environ: Mapping[str, str]) -> Run:
        self._runs.has([(RemoteAdapter(offer, self._adapters), offer.origin) for offer in self._adapters.offers()])
        first, known = self._runs.serving[0], self._runs.adapters
        put, ending, market = first.outbox.put, self._ending, self._market
        run = open_run(self._opening, environ, self._directory, known, self, put, ending=ending, market=market)
        if self._reuses:
            self._door = Door(self._opening, environ, self)
            if refused := self._door.publish():
                run.tell(refused)
                self._reuses = False
                first.opening = first.opening.for_one_run()
        first.joins(run)
        return run


def _keep_log(path: Path) -> str:
    """Redirect this process's standard error into a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return str(path)


def main(descriptor: int, market: LocalMarket) -> int:
    """Run the supervisor.

    :param descriptor: Of the listening socket.
    :param market: The local market, for a run that rents there. It may have begun to start.
    :returns: See :meth:`Process.live`.
    """
    listener = socket.socket(fileno=descriptor)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(0, "rb", buffering=0, closefd=False) as pipe:
        told = pipe.readline()
        if not told:
            return 0  # the process that started this one has died
        process = Process(decode(Opening, json.loads(told)), listener, market)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: process.end())
        secret = pipe.read()
        if not secret:
            return 0
        environ = {**os.environ, **json.loads(secret)}
    child.close_input()
    process.admit(decode(Opening, json.loads(told)), listener)
    return process.live(environ)
