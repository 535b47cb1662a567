"""Messages on a stream socket: JSON behind its length.

What is called here is bound when the module is loaded, before any test runs: a test may replace what it likes in
``socket``, and the messages of this process still arrive.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from typing import Any

LARGEST = 64 * 1024 * 1024
"""Bytes; a server's log of 4 MB is the largest thing that is meant to travel."""
_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")
_ENCODING = ("utf-8", "surrogatepass")
"""Text that is no text (undecodable names of files) arrives as it was."""
_sendall = socket.socket.sendall
_recv_into = socket.socket.recv_into
_getsockopt = socket.socket.getsockopt
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_from_json = json.JSONDecoder().decode
_poll = select.poll
_monotonic = time.monotonic


class TooLarge(ValueError):
    """A message is longer than any should be."""


def send(sock: socket.socket, message: Any, largest: int = LARGEST) -> None:
    """Send one message.

    :param largest: Most bytes that it may have.
    :raises TooLarge: nothing was sent.
    :raises OSError: if the other side is gone.
    """
    data = _to_json(message).encode(*_ENCODING)
    if len(data) > largest:
        raise TooLarge(f"a message of {len(data)} bytes; {largest} are the most")
    _sendall(sock, _LENGTH.pack(len(data)) + data)


def receive(sock: socket.socket, largest: int = LARGEST, within_s: float | None = None) -> Any:
    """The next message.

    :param largest: Bytes; of an untrusted sender nothing longer is read.
    :param within_s: Seconds for all of it, in however many pieces it comes; None: as long as it takes.
    :raises EOFError: the other side has hung up.
    :raises OSError: the connection is broken, or the message was not there in time.
    :raises TooLarge: by what it announces; the connection is of no use any more.
    :raises ValueError: if it is no JSON.
    """
    ends = None if within_s is None else _monotonic() + within_s
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size, ends))
    if length > largest:
        raise TooLarge(f"a message of {length} bytes; {largest} are the most")
    return _from_json(_exactly(sock, length, ends).decode(*_ENCODING))


def _exactly(sock: socket.socket, size: int, ends: float | None) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        if ends is not None and not readable(sock, max(0.0, ends - _monotonic())):
            raise TimeoutError
        count = _recv_into(sock, rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


def readable(sock: socket.socket, timeout_s: float) -> bool:
    """Whether something can be read, be it the end, within that time."""
    waiting = _poll()  # select() knows no descriptor beyond 1023
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(timeout_s * 1000))


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process at the other end of a Unix socket; -1 where the system does not say."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return -1
    _, uid, _ = _CREDENTIALS.unpack(_getsockopt(sock, socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid)
