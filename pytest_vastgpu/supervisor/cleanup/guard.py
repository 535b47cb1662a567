"""The supervisor's handle on the guard process: starts it before the first rent, ends it when all is given back."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from pathlib import Path

from pytest_vastgpu.core import child
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.environment import API_KEY
from pytest_vastgpu.core.fork_safety import close_private
from pytest_vastgpu.core.fork_safety import keep_private
from pytest_vastgpu.core.secret import Environment
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.supervisor.cleanup import guard_process
from pytest_vastgpu.supervisor.cleanup.guard_process import FAREWELL
from pytest_vastgpu.supervisor.cleanup.guard_process import READY
from pytest_vastgpu.supervisor.ledger.ledger import Ledger

START_WITHIN_S = 60.0
"""Time limit of its start, which takes a tenth of a second on an idle machine."""
_LOOK_MS = 200
LEAVE_WITHIN_S = 2.0
"""How long the end of a run waits for a guard that has nothing left to do."""


class Guard:
    """Starts the guard of a run, and replaces it if it dies. Thread-safe.

    :param directory: The run's directory.
    :param api_key: The guard gets it in its environment.
    """

    def __init__(self, directory: Path, api_key: Secret, ledger: Ledger) -> None:
        self._directory = directory.absolute()
        self._environ = Environment({**child.environment(), API_KEY: api_key.reveal()})
        self._ledger = ledger
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._over = False

    def start(self) -> None:
        """Start the guard, without waiting until it is ready.

        :raises ConfigurationError: if no process can be started.
        """
        with self._lock:
            self._start()

    def ensure(self) -> None:
        """Check that the guard is ready, and replace one that has died. Called before each create.

        :raises ConfigurationError: if no guard can be started.
        :raises Cancelled: the run is ending.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            self._await_ready()

    def let_go(self) -> None:
        """Tell the guard that the run is over. Where instances are left, the guard goes on trying to destroy them."""
        self._over = True  # ends the wait of a thread that has the lock
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            with contextlib.suppress(OSError):  # the guard is dead, or a test has closed the pipe
                os.write(self._pipe, FAREWELL)
            self._release(process)
        try:
            process.wait(LEAVE_WITHIN_S)
        except subprocess.TimeoutExpired:
            threading.Thread(target=process.wait, name="vastgpu-guard", daemon=True).start()

    def _start(self) -> None:
        if self._process is not None:
            self._release(self._process)
            self._process = None
        theirs, ours = os.pipe()
        try:
            with open(self._log, "ab", opener=_only_ours) as log:
                self._process = subprocess.Popen(
                    child.command(guard_process.__name__, str(self._directory), str(os.getpid())),
                    stdin=theirs,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd="/",  # it must not keep a directory in use, nor import from one
                    env=self._environ,
                    start_new_session=True,
                )
        except OSError as error:
            os.close(ours)
            raise ConfigurationError(f"no guard process can be started ({error}): nothing is rented without") from error
        finally:
            os.close(theirs)
        self._pipe = keep_private(ours)

    def _await_ready(self) -> None:
        process = self._process
        if process is None or process.stdout is None or process.stdout.closed:
            return
        poll = select.poll()  # select() cannot take descriptors above 1023
        poll.register(process.stdout, select.POLLIN)
        ends = time.monotonic() + START_WITHIN_S
        while not (ready := poll.poll(_LOOK_MS)) and time.monotonic() < ends:
            if self._over:
                raise Cancelled
        said = os.read(process.stdout.fileno(), len(READY)) if ready else b""
        process.stdout.close()
        if said != READY:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE_WITHIN_S)
            raise ConfigurationError(
                f"the guard process did not start, and nothing is rented without one: see {self._log}"
            )
        self._ledger.write("", "guard", pid=process.pid)

    def _release(self, process: subprocess.Popen[bytes]) -> None:
        close_private(self._pipe)
        if process.stdout is not None:
            process.stdout.close()

    @property
    def _log(self) -> Path:
        return self._directory / "guard.log"


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
