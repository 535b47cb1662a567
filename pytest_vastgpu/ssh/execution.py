"""One command on one SSH channel: feed it, read it, and know how it ended."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 16
_TICK_S = 0.25
"""The arrival of an exit status wakes nobody up: look this often. Output and the end of output do wake us."""
_LINGER_S = 1.0
"""A process left in the background holds the output open: wait this long for the rest after the exit status."""
BROKEN = (OSError, EOFError, paramiko.SSHException)
"""What paramiko raises where a connection or channel is refused, breaks or is closed."""


@dataclass(frozen=True)
class End:
    """How a command ended."""

    exit_code: int | None
    """None where it did not end, or nobody said how."""
    timed_out: bool = False


def start(channel: paramiko.Channel, line: str, limit_s: float) -> None:
    """Ask the server to run ``line``.

    :raises paramiko.SSHException: the server refuses, the connection broke, or ``limit_s`` seconds were not enough.
    """
    # paramiko waits for the server's consent without any limit; a closed channel ends the wait.
    watchdog = threading.Timer(limit_s, close, (channel,))
    watchdog.start()
    try:
        channel.exec_command(line)
    finally:
        watchdog.cancel()
        watchdog.join()


def close(channel: paramiko.Channel) -> None:
    """Close a channel; success also where its connection has broken."""
    with contextlib.suppress(*BROKEN):  # it tells the other side
        channel.close()


def pump(
    channel: paramiko.Channel,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    *,
    stdin: bytes = b"",
    hold: bool = False,
    deadline: float | None = None,
) -> End:
    """Feed ``stdin``, then its end; hand over what arrives as it arrives, until the command or the channel ends.

    :param hold: Keep the command's stdin open until the channel ends.
    :param deadline: On the clock of ``time.monotonic``; None: no limit.
    """
    feeder = threading.Thread(target=_feed, args=(channel, stdin, hold), name="vastgpu-ssh-stdin", daemon=True)
    if stdin:
        # In a thread of its own: a command that prints while it reads would otherwise lock us both up.
        feeder.start()
    else:
        _feed(channel, stdin, hold)
    try:
        return _read(channel, on_stdout, on_stderr, deadline)
    finally:
        close(channel)
        if stdin:
            feeder.join()


def _feed(channel: paramiko.Channel, stdin: bytes, hold: bool) -> None:
    try:
        channel.sendall(stdin)
        if not hold:
            channel.shutdown_write()
    except BROKEN:
        pass  # the command reads no more, or the connection broke: the reading side sees which, and reports it


class _Arrival(threading.Event):
    """Set when something has arrived, or the end.

    It stands in for the channel's file descriptor: paramiko writes to that one when data arrives, even after the
    channel was closed and the number belongs to another file, and an error there ends the whole connection.
    """

    def clear(self) -> None:
        """Do nothing: called by each of two buffers when it is empty, whatever is in the other."""

    def forget(self) -> None:
        """Be set again only by what arrives from now on."""
        super().clear()


def _read(
    channel: paramiko.Channel,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    deadline: float | None,
) -> End:
    arrival = _Arrival()
    for buffer in (channel.in_buffer, channel.in_stderr_buffer):
        buffer.set_event(arrival)
    until = deadline
    exited = False
    while True:
        arrival.forget()
        ended = bool(channel.eof_received) or channel.closed  # asked first: nothing can arrive after it
        if channel.recv_ready():
            on_stdout(channel.recv(_CHUNK))
            ended = False
        if channel.recv_stderr_ready():
            on_stderr(channel.recv_stderr(_CHUNK))
            ended = False
        if ended:
            break
        if not exited and channel.status_event.is_set():
            exited = True
            until = time.monotonic() + _LINGER_S
        left = _TICK_S if until is None else until - time.monotonic()
        if left <= 0:
            break
        if not (channel.recv_ready() or channel.recv_stderr_ready()):
            arrival.wait(min(left, _TICK_S))
    # The output may be closed before the process ends.
    while not channel.status_event.is_set():
        left = _TICK_S if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return End(None, timed_out=True)
        channel.status_event.wait(left)
    return End(channel.exit_status if channel.exit_status >= 0 else None)
