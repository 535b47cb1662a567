"""Joins a test process to the program on an instance that runs tests there, and tells what that prints beside."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from pytest_vastgpu.client.calls import PipeRequest
from pytest_vastgpu.core.text.layout import left_out
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import State
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.server import workers

LIVE_BYTES = 4 << 20
"""Of what a host prints on its standard error so much is told as it comes; of the rest the end, once it is over."""
LAST_BYTES = 1 << 16
_LINE_BYTES = 1 << 14
"""A longer line is told in parts."""
_OF_WORKER = re.compile(r"\[(\w+)\] ?(.*)")


def converse(
    rental: Rental,
    asked: PipeRequest,
    local: socket.socket,
    tell: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    """Run a command on an instance, and join its input and output to a socket, until either side ends.

    Nothing of it is left on the instance then, nor of any that ran there before.

    :param tell: Takes a sentence about what went wrong.
    :param show: Takes a line that the command, or a process of it, has printed on its standard error.
    :raises VastGpuError: the instance cannot be reached.
    :raises ValueError: the command cannot be written for a shell.
    """
    if rental.connection is None or rental.state is not State.READY:
        raise VastGpuError(f"instance {rental.instance_id} cannot run tests: it is {rental.state.value}")
    rental.touched()
    lines = ErrorLines(asked.name, show)
    connection = rental.connected.connection()
    done = connection.converse(workers.start(asked.command), local, lines.feed)
    lines.close()
    wanted = rental.state is State.READY  # otherwise it is being given back, or is lost: others say so
    if done.problem and wanted:
        tell(f"{asked.name}: {done.problem}")
    elif done.exit_code and wanted:
        tell(f"{asked.name}: the program that starts workers there ended with exit code {done.exit_code}")
    if done.pid and connection.alive:
        connection.run(workers.end(done.pid), timeout_s=workers.END_LIMIT_S)


class ErrorLines:
    """Splits the standard error of a host into lines, and says of each whose it is.

    Its memory is bounded, and so is what it passes on.

    :param name: The host's name.
    :param show: Takes each line.
    """

    def __init__(
        self, name: str, show: Callable[[str], None], live_bytes: int = LIVE_BYTES, last_bytes: int = LAST_BYTES
    ) -> None:
        self._name = name
        self._show = show
        self._live = live_bytes
        self._most_last = last_bytes
        self._line = b""
        self._last = bytearray()
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            for start in range(0, max(1, len(line)), _LINE_BYTES):
                self._take(line[start : start + _LINE_BYTES])
        while len(self._line) >= _LINE_BYTES:
            self._take(self._line[:_LINE_BYTES])
            self._line = self._line[_LINE_BYTES:]

    def close(self) -> None:
        """There is nothing more: tell the rest."""
        if self._line:
            self._take(self._line)
        if self._dropped:
            self._show(f"[{self._name}] {left_out(self._dropped, 'bytes').strip()}")
        for line in bytes(self._last).splitlines():
            self._tell(line)

    def _take(self, line: bytes) -> None:
        if self._live > 0:
            self._live -= len(line) + 1
            self._tell(line)
            return
        self._last += line + b"\n"
        while len(self._last) > self._most_last:
            oldest = self._last.index(b"\n") + 1
            self._dropped += oldest
            del self._last[:oldest]

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        found = _OF_WORKER.fullmatch(text)
        self._show(f"[{found[1]} on {self._name}] {found[2]}" if found else f"[{self._name}] {text}")
