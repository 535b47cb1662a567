"""Runs one command on one SSH channel: writes its stdin, reads its output, and determines how it ended."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

_CHUNK = 1 << 16
_TICK_S = 0.25
"""Pause between two checks for the exit status, whose arrival sends no signal. Output and its end do."""
LEAVE_S = 2.0
"""How long a thread is waited for that has been told to end. One that takes longer is left to itself."""
_LINGER_S = 1.0
"""How long to wait for output after the exit status: a background process may hold the output open."""
_REST_LIMIT = 16 << 20
"""Bytes to read after the exit status, which servers send ahead of what all buffers and windows on the way hold: it is
less than this. A background process may print for ever."""
BROKEN = (OSError, EOFError, paramiko.SSHException)
"""The exceptions of paramiko where a connection or channel is refused, breaks or is closed."""


@dataclass(frozen=True)
class End:
    """How a command ended."""

    exit_code: int | None
    """None where it did not end, or the server did not report one."""
    timed_out: bool = False


class Outgoing:
    """Input of a command that is made while it is sent.

    :param still_s: Longest time without a part being taken.
    """

    def __init__(self, parts: Iterable[bytes], still_s: float) -> None:
        self._parts = parts
        self._still_s = still_s
        self._moved = time.monotonic()
        self.error: Exception | None = None
        """Why it has ended early."""

    def __iter__(self) -> Iterator[bytes]:
        """The parts; raises nothing."""
        try:
            for part in self._parts:
                yield part
                self._moved = time.monotonic()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the command was called for
            self.error = error

    def ends(self) -> float:
        """When it has stood still for too long, on the clock of ``time.monotonic``."""
        return self._moved + self._still_s


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
        watchdog.join(LEAVE_S)  # it may be closing the channel, which sends a message


def close(channel: paramiko.Channel) -> None:
    """Close a channel; success also where its connection has broken."""
    with contextlib.suppress(*BROKEN):  # closing sends a message to the server
        channel.close()


def pump(
    channel: paramiko.Channel,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    *,
    stdin: bytes | Iterable[bytes] = b"",
    hold: bool = False,
    deadline: float | Callable[[], float] | None = None,
    watch: Callable[[], None] = lambda: None,
) -> End:
    """Write ``stdin`` and its end; pass output to the callbacks as it arrives, until the command or the channel ends.

    :param stdin: Its parts are asked for in a thread of their own; they raise nothing.
    :param hold: Keep the command's stdin open until the channel ends.
    :param deadline: On the clock of ``time.monotonic``; None: no limit. A function may move it.
    :param watch: Called several times a second; what it raises ends the command and is passed on.
    """
    ends = deadline if callable(deadline) else lambda: deadline
    feeder = threading.Thread(target=_feed, args=(channel, stdin, hold), name="vastgpu-ssh-stdin", daemon=True)
    if stdin:
        # In a thread of its own: with a command that prints while it reads, both sides would otherwise block.
        feeder.start()
    else:
        _feed(channel, stdin, hold)
    try:
        return _read(channel, on_stdout, on_stderr, ends, watch)
    finally:
        close(channel)
        if stdin:
            feeder.join(LEAVE_S)  # its channel is closed


def _feed(channel: paramiko.Channel, stdin: bytes | Iterable[bytes], hold: bool) -> None:
    try:
        for part in [stdin] if isinstance(stdin, bytes) else stdin:
            channel.sendall(part)
        if not hold:
            channel.shutdown_write()
    except BROKEN:
        pass  # the command reads no more, or the connection broke; the reading side sees which and reports it


class _Arrival(threading.Event):
    """Set when data arrives, or the output ends.

    It replaces the channel's file descriptor. paramiko writes to that descriptor when data arrives, even after the
    channel was closed and the number belongs to another file, and an error there ends the whole connection.
    """

    def clear(self) -> None:
        """Do nothing: each of the two buffers calls this when it is empty, even where the other has data."""

    def forget(self) -> None:
        """Clear the event: only data that arrives from now on sets it."""
        super().clear()


def _read(
    channel: paramiko.Channel,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    ends: Callable[[], float | None] = lambda: None,
    watch: Callable[[], None] = lambda: None,
) -> End:
    arrival = _Arrival()
    for buffer in (channel.in_buffer, channel.in_stderr_buffer):
        buffer.set_event(arrival)
    lingered_s, rest = 0.0, 0
    while True:
        watch()
        arrival.forget()
        ended = bool(channel.eof_received) or channel.closed  # read this first: nothing can arrive after the end
        lingers = channel.status_event.is_set()
        got = 0
        if channel.recv_ready():
            got += _pass_on(channel.recv(_CHUNK), on_stdout)
        if channel.recv_stderr_ready():
            got += _pass_on(channel.recv_stderr(_CHUNK), on_stderr)
        if ended and not got:
            break
        if lingers:
            rest += got
            if rest > _REST_LIMIT or (lingered_s >= _LINGER_S and not got):
                break
            left = max(0.0, _LINGER_S - lingered_s)
        else:
            until = ends()
            left = _TICK_S if until is None else until - time.monotonic()
            if left <= 0:
                break
        if not (ended or channel.recv_ready() or channel.recv_stderr_ready()):
            longest = min(left, _TICK_S)
            began = time.monotonic()
            arrival.wait(longest)
            if lingers:  # only what is waited for counts: a process that does not get to run has much left to read
                lingered_s += min(time.monotonic() - began, longest)
    # The output may be closed before the process ends.
    while not channel.status_event.is_set():
        watch()
        until = ends()
        left = _TICK_S if until is None else until - time.monotonic()
        if left <= 0:
            return End(None, timed_out=True)
        channel.status_event.wait(min(left, _TICK_S))
    return End(channel.exit_status if channel.exit_status >= 0 else None)


def _pass_on(data: bytes, taker: Callable[[bytes], None]) -> int:
    taker(data)
    return len(data)
