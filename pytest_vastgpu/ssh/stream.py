"""A long-running command over SSH whose lines are passed to a callback as they arrive."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING
from typing import Protocol

from pytest_vastgpu.ssh import execution
from pytest_vastgpu.ssh.command import BoundedText
from pytest_vastgpu.ssh.command import Lines
from pytest_vastgpu.ssh.command import MarkedOutput
from pytest_vastgpu.ssh.execution import LEAVE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import paramiko

    from pytest_vastgpu.ssh.address import SshAddress

LINE_LIMIT = 2 << 20
"""Characters of the longest line: twice the longest that our monitor program prints."""
_STDERR_LIMIT = 1 << 16
_START_LIMIT_S = 10.0
"""Time limit for the server to start the command. After it the stream ends, and its user starts another."""

_log = logging.getLogger(__name__)


class Sessions(Protocol):
    """What a stream asks of the connection that it runs over."""

    address: SshAddress

    def session(self, deadline: float | None, wanted: Callable[[], bool]) -> AbstractContextManager[paramiko.Channel]:
        """A channel to run one command on; waits while too many are open, and while it is wanted."""
        ...

    def kill(self, pid: int) -> None:
        """Kill a command with its children."""
        ...

    def forget(self, stream: SshStream) -> None:
        """The stream has ended."""
        ...


class SshStream:
    """Handle on a command started by ``SshConnection.stream``, which describes it."""

    def __init__(
        self,
        connection: Sessions,
        line: str,
        stdin: bytes,
        on_line: Callable[[str], None],
        on_end: Callable[[int | None], None] | None,
    ) -> None:
        self._connection = connection
        self._line = line
        self._stdin = stdin
        self._on_line = on_line
        self._on_end = on_end
        self._marked = MarkedOutput()
        self._stderr = BoundedText(_STDERR_LIMIT)
        self._lines = Lines(LINE_LIMIT)
        self._lock = threading.Lock()
        self._channel: paramiko.Channel | None = None
        self._stopped = False
        self.problem = ""
        """Why it broke off before its end; empty where it did not."""
        self._thread = threading.Thread(target=self._work, name="vastgpu-ssh-stream", daemon=True)

    @property
    def alive(self) -> bool:
        """True until the last line has been passed on."""
        return self._thread.is_alive()

    @property
    def stderr(self) -> str:
        """What the command has printed on stderr; beyond 64 KiB, the middle is left out."""
        return self._stderr.text()

    def start(self) -> None:
        """Start the thread; called by the connection."""
        self._thread.start()

    def close(self) -> None:
        """Kill the command and wait a little until the last line has been passed on (unless called from a callback)."""
        with self._lock:
            first = not self._stopped
            self._stopped = True
            channel = self._channel
        if first and self.alive:
            self._connection.kill(self._marked.pid)
            if channel is not None:
                execution.close(channel)
        self.wait(LEAVE_S)

    def hang_up(self) -> None:
        """Close the channel without waiting: for a command that ends by itself when its stdin ends."""
        with self._lock:
            self._stopped = True
            channel = self._channel
        if channel is not None:
            execution.close(channel)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; returns False where it has not come within ``timeout_s``."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self.alive

    def _work(self) -> None:
        end = execution.End(None)
        try:
            with self._connection.session(None, lambda: not self._stopped) as channel:
                with self._lock:
                    self._channel = channel
                    stopped = self._stopped
                if not stopped:
                    execution.start(channel, self._line, _START_LIMIT_S)
                    end = execution.pump(channel, self._take, self._stderr.feed, stdin=self._stdin, hold=True)
        except execution.BROKEN as error:
            if not self._stopped:
                self.problem = str(error)
                _log.info("stream from %s ended: %s", self._connection.address, error)
        finally:
            self._connection.forget(self)
            if rest := self._lines.rest():
                self._on_line(rest)
            if self._on_end is not None:
                self._on_end(end.exit_code if self._marked.pid and not self._stopped else None)

    def _take(self, data: bytes) -> None:
        for line in self._lines.feed(self._marked.feed(data)):
            self._on_line(line)
