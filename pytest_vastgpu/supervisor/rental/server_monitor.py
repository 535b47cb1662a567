"""Watching a server: a small shell program on the instance tells what is new, over the one SSH connection."""

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
from pytest_vastgpu.supervisor.rental import server_job
from pytest_vastgpu.supervisor.rental.server_state import LogPiece
from pytest_vastgpu.supervisor.rental.server_state import ServerState
from pytest_vastgpu.supervisor.rental.server_state import parse

PROGRAM = f"{server_job.HOME}/watch.sh"
"""Where the program lies on the instance."""
_TROUBLE_CHARS = 500
AGAIN_S = 0.5
"""One that ends is started again, but not more often than this."""
DEAF_PERIOD_S = 1.0
"""Between two starts of a probe while nothing listens on the port that it depends on."""

_PIECE_BYTES = 65536
_PIECE = f"tail -c +{{}} {server_job.HOME}/server.log | head -c {_PIECE_BYTES} | od -An -v -tx1 | tr -d ' \\n'"
_PIECE_S = 10.0
_PIECES = 64
"""So many are read at most: as much as is kept of a log."""


def program(probes: Sequence[Probe]) -> str:
    """The program's text. It takes the offset in the log from which to tell as its argument."""
    starts = []
    for number, probe in enumerate(probes, 1):
        period_s = probe.every_s or (DEAF_PERIOD_S if probe.port else 0)
        words = [number, round(probe.timeout_s * 100), round(period_s * 100), probe.port or "", probe.command]
        starts.append(f'probe {shlex.join(map(str, words))} &\nlanes="$lanes $!"\n')
    return "".join([Path(__file__).with_name("watch.sh").read_text(encoding="utf-8"), *starts, "watch\n"])


class ServerMonitor:
    """Keeps the program running on an instance, and what it has told at hand, until :meth:`close`.

    :param env: Environment of the probes; no process list shows it.
    :param log_limit: Characters of the server's log to keep.
    :param cancel: Is nudged by news, and ends all waiting.
    """

    def __init__(
        self,
        connection: ReconnectingConnection,
        probes: Sequence[Probe],
        env: Mapping[str, str],
        log_limit: int,
        cancel: CancelToken,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._reconnecting = connection
        self._clock = clock
        self._probes = tuple(probes)
        self._env = env
        self._cancel = cancel
        self._lock = threading.Lock()
        self._state = ServerState(probes, log_limit)
        self._stream: Stream | None = None
        self._started = -math.inf
        self._runs = False
        self._news = False
        self._urgent = False
        self.trouble = ""
        """Why the program last ended before its time."""

    def keep_up(self) -> None:
        """See that the program runs. What it does not tell meanwhile it tells afterwards.

        :raises ConnectFailed: the connection is broken and cannot be made anew.
        :raises Cancelled: the run is ending.
        """
        if self._runs:
            return
        self._cancel.wait(self._started + AGAIN_S - self._clock.monotonic())
        self._started = self._clock.monotonic()
        connection = self._reconnecting.connection()
        try:
            connection.write_file(PROGRAM, program(self._probes).encode())
        except TransferFailed as failed:
            self.trouble = str(failed)
            return
        self._runs = True
        command = f'exec "$(command -v bash || echo sh)" {PROGRAM} {self._state.offset}'
        self._stream = connection.stream(command, self._on_line, self._on_end, env=self._env)

    def observe(self, age_s: float) -> Observation:
        """All that is known now.

        :param age_s: Seconds since the server was started.
        """
        with self._lock:
            self._news = self._urgent = False
            return self._state.observation(age_s, watched=self._runs)

    def catch_up(self) -> bool:
        """Read what the log holds by now: of two things that happen at once, the program may tell either first.

        Of a log that grows faster than it is read, so much is enough.

        :returns: Whether there was something that it had not told yet.
        :raises ConnectFailed: the connection is broken and cannot be made anew.
        """
        found = False
        for _ in range(_PIECES):
            offset = self._state.offset
            result = self._reconnecting.run(_PIECE.format(offset + 1), timeout_s=_PIECE_S)
            try:
                data = bytes.fromhex(result.stdout) if result.ok else b""
            except ValueError:  # a host can answer what it likes
                break
            with self._lock:
                self._state.take(LogPiece(offset, data))
            found = found or bool(data)
            if len(data) < _PIECE_BYTES:
                break
        return found

    def wait(self, rest_s: float, seconds: float) -> None:
        """Wait for news, but not longer than ``seconds``.

        :param rest_s: That long, nothing but an answer or the server's end counts: its log may grow all the time.
        :raises Cancelled: the run is ending.
        """
        self._cancel.wait(rest_s, lambda: self._urgent)
        self._cancel.wait(seconds, lambda: self._news)

    def close(self) -> None:
        """Let the program end. Waits for nothing."""
        if self._stream is not None:
            self._stream.hang_up()

    def _on_line(self, line: str) -> None:
        news = parse(line, self._probes)
        if news is None:
            return
        with self._lock:
            self._state.take(news)
            self._news = True
            self._urgent = self._urgent or not isinstance(news, LogPiece)
        self._cancel.nudge()

    def _on_end(self, exit_code: int | None) -> None:
        with self._lock:
            if exit_code is not None and self._stream is not None:
                self.trouble = f"exit code {exit_code}: {self._stream.stderr.strip()[-_TROUBLE_CHARS:]}"
            elif self._stream is not None and self._stream.problem:
                self.trouble = self._stream.problem
            self._runs = False
            self._news = self._urgent = True
        self._cancel.nudge()
