"""A command over SSH whose input and output are the two directions of a local socket: bytes, as they come."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from pytest_vastgpu.ssh import execution
from pytest_vastgpu.ssh.command import BoundedText
from pytest_vastgpu.ssh.command import MarkedOutput

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import paramiko

_CHUNK = 1 << 16
_START_LIMIT_S = 10.0
"""Time limit for the server to start the command."""
_STDERR_LIMIT = 1 << 16


def converse(
    session: AbstractContextManager[paramiko.Channel], line: str, preface: bytes, local: socket.socket
) -> None:
    """Run a command, and join its input and output to a socket, until either side ends.

    :param session: A channel of the connection.
    :param line: The command, and what is to be sent before all else: see
        :func:`~pytest_vastgpu.ssh.command.shell_line`.
    :raises OSError, EOFError, paramiko.SSHException: if the command could not be started, or the connection broke.
    """
    marked, complaints = MarkedOutput(), BoundedText(_STDERR_LIMIT)
    with session as channel:
        execution.start(channel, line, _START_LIMIT_S)
        channel.sendall(preface)
        upward = threading.Thread(target=_send, args=(local, channel), name="vastgpu-pipe-up", daemon=True)
        upward.start()
        try:
            execution.pump(channel, lambda data: local.sendall(marked.feed(data)), complaints.feed, hold=True)
        finally:
            with contextlib.suppress(OSError):
                local.shutdown(socket.SHUT_RDWR)
            upward.join(execution.LEAVE_S)


def _send(local: socket.socket, channel: paramiko.Channel) -> None:
    """Copy from the socket to the command, until the socket's other end hangs up."""
    try:
        while data := local.recv(_CHUNK):
            channel.sendall(data)
        channel.shutdown_write()
    except execution.BROKEN:
        execution.close(channel)
