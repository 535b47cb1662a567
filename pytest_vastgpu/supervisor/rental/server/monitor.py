"""Monitors a server: a small shell program on the instance sends every change over the SSH connection."""

from __future__ import annotations

import math
import shlex
import threading
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.model import Probe
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.ssh.base import Stream
from pytest_vastgpu.ssh.base import TransferFailed
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.state import LogPiece
from pytest_vastgpu.supervisor.rental.server.state import ProcessState
from pytest_vastgpu.supervisor.rental.server.state import ServerState
from pytest_vastgpu.supervisor.rental.server.state import ServerUpdate
from pytest_vastgpu.supervisor.rental.server.state import parse

PROGRAM = "watch.sh"
"""Name of the program on the instance, in the folder with what it watches."""
_TROUBLE_CHARS = 500
AGAIN_S = 0.5
"""Shortest time between two starts of the program, which is started again when it ends."""
DEAF_PERIOD_S = 1.0
"""Pause between two starts of a probe while nothing listens on the port that it needs."""

_PIECE_BYTES = 65536
_PIECE = f"tail -c +{{}} {{}}/server.log | head -c {_PIECE_BYTES} | od -An -v -tx1 | tr -d ' \\n'"
_PIECE_S = 10.0
_PIECES = 64
"""Most pieces read in one go: as much as is kept of a log."""


def program(probes: Sequence[Probe]) -> str:
    """The program's text. Its argument is the offset in the log from which it starts to send."""
    starts = []
    for number, probe in enumerate(probes, 1):
        period_s = probe.every_s or (DEAF_PERIOD_S if probe.port else 0)
        words = [number, round(probe.timeout_s * 100), round(period_s * 100), probe.port or "", probe.command]
        starts.append(f'probe {shlex.join(map(str, words))} &\necho "$!" >> "$notes/lanes"\n')
    return "".join([Path(__file__).with_name("watch.sh").read_text(encoding="utf-8"), *starts, "watch\n"])


class ServerMonitor:
    """Keeps the program running on an instance and collects what it sends, until :meth:`close`.

    :param env: Environment of the probes; no process list shows it.
    :param log_limit: Characters of the server's log to keep.
    :param cancel: Each update nudges it; a cancelled one ends all waiting.
    :param folder: The server's, see :func:`~pytest_vastgpu.supervisor.rental.server.job.start`.
    :param state: What another monitor already knows of the server, which tests use now: they shall not feel this one.
    """

    def __init__(
        self,
        connection: ReconnectingConnection,
        probes: Sequence[Probe],
        env: Mapping[str, str],
        log_limit: int,
        cancel: CancelToken,
        clock: Clock = SYSTEM_CLOCK,
        folder: str = job.HOME,
        state: ServerState | None = None,
    ) -> None:
        self.folder = folder
        self._reconnecting = connection
        self._clock = clock
        self._probes = tuple(probes)
        self._env = env
        self._cancel = cancel
        self._log_limit = log_limit
        self._state = state or ServerState(probes, log_limit)
        self._lock = self._state.lock
        self._quiet = state is not None
        self._over = False
        self.ended_at: float | None = None
        """When the server ended: epoch seconds. None while it lives."""
        self._stream: Stream | None = None
        self._starting = threading.Lock()
        """A stream may end before it is known here."""
        self._started = -math.inf
        self._runs = False
        self._changed = False
        self._urgent = False
        self.trouble = ""
        """Why the program last ended unexpectedly."""

    def keep_up(self) -> None:
        """Start the program again if it has ended. It then goes on from the same place in the log.

        :raises ConnectFailed: the connection is broken and cannot be opened again.
        :raises Cancelled: the run is ending.
        """
        if self._runs or self._over:
            return
        self._cancel.wait(self._started + AGAIN_S - self._clock.monotonic())
        self._started = self._clock.monotonic()
        connection = self._reconnecting.connection()
        try:
            path = f"{self.folder}/{PROGRAM}"
            connection.write_file(path, program(self._probes).encode())
        except TransferFailed as failed:
            self.trouble = str(failed)
            return
        self._runs = True
        pace = " quiet" if self._quiet else ""
        # Some images have curl or python3, which probes need, in the PATH of their own environment only.
        shell = 'exec "$(command -v bash || echo sh)"'
        command = f"{job.IN_IMAGE_ENV}{shell} {path} {self._state.offset}{pace}"
        with self._starting:
            self._stream = connection.stream(command, self._on_line, self._on_end, env=self._env)
        if self._over:  # closed meanwhile
            self._stream.hang_up()

    def observe(self, age_s: float) -> Observation:
        """Everything known of the server now.

        :param age_s: Seconds since the server was started.
        """
        with self._lock:
            self._changed = self._urgent = False
            return self._state.observation(age_s, watched=self._runs)

    def catch_up(self) -> bool:
        """Read the log up to now: of two simultaneous changes, the program may send either first.

        It reads at most :data:`_PIECES` pieces, so that it ends even where the log grows faster than it reads.

        :returns: Whether the log had anything that the program had not sent.
        :raises ConnectFailed: the connection is broken and cannot be opened again.
        """
        found = False
        for _ in range(_PIECES):
            offset = self._state.offset
            result = self._reconnecting.run(_PIECE.format(offset + 1, self.folder), timeout_s=_PIECE_S)
            try:
                data = bytes.fromhex(result.stdout) if result.ok else b""
            except ValueError:  # the host's answer is not trusted
                break
            with self._lock:
                self._state.take(LogPiece(offset, data))
            found = found or bool(data)
            if len(data) < _PIECE_BYTES:
                break
        return found

    def wait(self, rest_s: float, seconds: float) -> None:
        """Wait for an update.

        :param rest_s: Seconds in which only a probe's result or the server's end ends the wait: the log may grow all
            the time.
        :param seconds: Seconds to wait after that, for an update of any kind.
        :raises Cancelled: the run is ending.
        """
        self._cancel.wait(rest_s, lambda: self._urgent)
        self._cancel.wait(seconds, lambda: self._changed)

    def without_probes(self) -> ServerMonitor:
        """The monitor that goes on from here while tests use the server. This one ends."""
        self.close()
        cancel = CancelToken(self._clock)
        go_on = self._clock, self.folder, self._state
        return ServerMonitor(self._reconnecting, (), {}, self._log_limit, cancel, *go_on)

    @property
    def runs(self) -> bool:
        """Whether the program is known to run."""
        return self._runs

    @property
    def printed(self) -> int:
        """Characters of the server's log so far."""
        return self._state.printed

    @property
    def log(self) -> tuple[str, int]:
        """The server's log as far as it is kept, and how many characters it had printed by then."""
        with self._lock:
            return self._state.log, self._state.printed

    def take(self, update: ServerUpdate) -> None:
        """Add an update."""
        with self._lock:
            self._take(update)

    def close(self) -> None:
        """Let the program end, without waiting for that, and take no more updates."""
        with self._lock:
            self._over = True
        if self._stream is not None:
            self._stream.hang_up()

    def _on_line(self, line: str) -> None:
        update = parse(line, self._probes)
        if update is None:
            return
        with self._lock:
            if self._over:
                return
            self._take(update)
            self._changed = True
            self._urgent = self._urgent or not isinstance(update, LogPiece)
        self._cancel.nudge()

    def _take(self, update: ServerUpdate) -> None:
        """Add an update. The caller holds the lock."""
        self._state.take(update)
        if isinstance(update, ProcessState) and update.exit_code is not None and self.ended_at is None:
            self.ended_at = self._clock.time() - update.age_s

    def _on_end(self, exit_code: int | None) -> None:
        with self._starting, self._lock:
            if exit_code is not None and self._stream is not None:
                self.trouble = f"exit code {exit_code}: {self._stream.stderr.strip()[-_TROUBLE_CHARS:]}"
            elif self._stream is not None and self._stream.problem:
                self.trouble = self._stream.problem
            self._runs = False
            self._changed = self._urgent = True
        self._cancel.nudge()
