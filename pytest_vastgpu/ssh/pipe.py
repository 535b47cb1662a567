"""A command over SSH whose input and output are the two directions of a local socket: bytes, as they come.

Neither direction is kept in memory: where one side takes nothing, the other is not read. A thread copies each, so that
they do not wait for each other; paramiko's windows keep the connection free for its other channels meanwhile.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import TYPE_CHECKING

from pytest_vastgpu.ssh import execution
from pytest_vastgpu.ssh.base import Conversed
from pytest_vastgpu.ssh.command import MarkedOutput

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import paramiko

_CHUNK = 1 << 16


class _HungUp(Exception):
    """The local side takes nothing any more."""


def converse(
    session: AbstractContextManager[paramiko.Channel],
    line: str,
    preface: bytes,
    local: socket.socket,
    on_stderr: Callable[[bytes], None],
    start_limit_s: float,
) -> Conversed:
    """Run a command, and join its input and output to a socket, until either side ends.

    Where the local side hangs up, the command's input ends; if it then neither prints nor ends, it is left to itself.

    :param session: A channel of the connection.
    :param line: The command, and what is to be sent before all else: see
        :func:`~pytest_vastgpu.ssh.command.shell_line`.
    :param on_stderr: Called with what the command prints there, as it comes.
    :param start_limit_s: Time limit for the server to start the command, and then for the login shell to run it.
    """
    marked = MarkedOutput()
    exit_code, problem = None, ""
    try:
        with session as channel:
            execution.start(channel, line, start_limit_s)
            channel.sendall(preface)
            joined = _Joined(channel, local, marked, time.monotonic() + start_limit_s)
            try:
                end = execution.pump(channel, joined.take, on_stderr, hold=True, deadline=joined.deadline)
                exit_code = end.exit_code
                problem = joined.problem(end)
            finally:
                joined.close()
    except _HungUp:
        pass
    except execution.BROKEN as error:
        problem = str(error) or type(error).__name__
    return Conversed(marked.pid, exit_code, problem)


class _Joined:
    """A channel and a socket, each of which gets what the other sends."""

    def __init__(self, channel: paramiko.Channel, local: socket.socket, marked: MarkedOutput, starts_by: float) -> None:
        self._channel = channel
        self._local = local
        self._marked = marked
        self._starts_by = starts_by
        self._ends_by = math.inf
        self._upward = threading.Thread(target=self._send, name="vastgpu-pipe-up", daemon=True)

    def take(self, data: bytes) -> None:
        """Pass output of the command on.

        :raises _HungUp: if nobody takes it.
        """
        started = self._marked.pid
        own = self._marked.feed(data)
        if self._marked.pid and not started:
            self._upward.start()  # not before: what a login shell runs in place of the command would get it
        try:
            if own:
                self._local.sendall(own)
        except OSError:
            raise _HungUp from None
        if not math.isinf(self._ends_by):  # it has ended its own direction only, and takes what comes
            self._ends_by = time.monotonic() + execution.LEAVE_S

    def deadline(self) -> float:
        """When it is given up, on the clock of ``time.monotonic``."""
        return self._ends_by if self._marked.pid else self._starts_by

    def problem(self, end: execution.End) -> str:
        """Why a command that has ended so did not do what was asked; empty if one of the sides wanted it so."""
        if not self._marked.pid:
            said = self._marked.preamble.decode(errors="replace").strip()
            return f"the login shell did not run it{f', and said: {said}' if said else ''}"
        return "the connection broke" if end.exit_code is None and math.isinf(self._ends_by) else ""

    def close(self) -> None:
        """Hang up on the local side, unless the command was not run: then nothing was taken from it."""
        if self._marked.pid:
            with contextlib.suppress(OSError):
                self._local.shutdown(socket.SHUT_RDWR)
            self._upward.join(execution.LEAVE_S)

    def _send(self) -> None:
        try:
            while data := self._local.recv(_CHUNK):
                self._channel.sendall(data)
        except execution.BROKEN:
            pass  # the reading side sees which, and reports it
        self._ends_by = min(self._ends_by, time.monotonic() + execution.LEAVE_S)
        with contextlib.suppress(*execution.BROKEN):
            self._channel.shutdown_write()
