"""Messages on a stream socket: JSON, with its length in front.

Every function used here is bound when the module is loaded, before any test runs. So the messages of this process
still arrive if a test replaces functions in ``socket``.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from typing import Any

LARGEST = 64 * 1024 * 1024
"""Bytes; the largest expected message is a server's log of 4 MB."""
_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")
_ENCODING = ("utf-8", "surrogatepass")
"""Names of files that cannot be decoded arrive unchanged."""
sendall = socket.socket.sendall
_recv_into = socket.socket.recv_into
_getsockopt = socket.socket.getsockopt
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_from_json = json.JSONDecoder().decode
_poll = select.poll
_monotonic = time.monotonic


class Late(TimeoutError):
    """A message did not arrive in time."""


class TooLarge(ValueError):
    """A message is longer than the limit."""


def send(sock: socket.socket, message: Any, largest: int = LARGEST) -> None:
    """Send one message.

    :param largest: Most bytes of a message.
    :raises TooLarge: if the message is too long; nothing was sent.
    :raises OSError: if the other side has closed the connection.
    """
    sendall(sock, framed(message, largest))


def framed(message: Any, largest: int = LARGEST) -> bytes:
    """What :func:`send` sends, for one whose secrets must be in no variable while it is sent.

    :raises TooLarge: if the message is too long.
    """
    data = _to_json(message).encode(*_ENCODING)
    if len(data) > largest:
        raise TooLarge(f"a message of {len(data)} bytes; {largest} are the most")
    return _LENGTH.pack(len(data)) + data


def receive(sock: socket.socket, largest: int = LARGEST, within_s: float | None = None) -> Any:
    """The next message.

    :param largest: Most bytes; from an untrusted sender no longer message is read.
    :param within_s: Seconds for the whole message; None: no limit.
    :raises EOFError: if the other side has hung up.
    :raises OSError: if the connection broke, or the message did not arrive in time.
    :raises TooLarge: if the announced length is too large; the connection is then unusable.
    :raises ValueError: if the message is not JSON.
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
            raise Late
        count = _recv_into(sock, rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


def readable(sock: socket.socket, timeout_s: float) -> bool:
    """Whether the socket has data, or has reached its end, within that time."""
    waiting = _poll()  # select() cannot handle descriptors above 1023
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(timeout_s * 1000))


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process at the other end of a Unix socket; -1 if the system does not provide it."""
    credentials = _peer(sock)
    return credentials[1] if credentials else -1


def peer_pid(sock: socket.socket) -> int:
    """The process at the other end of a Unix socket; 0 if the system does not provide it, or not for this process."""
    credentials = _peer(sock)
    return credentials[0] if credentials else 0


def _peer(sock: socket.socket) -> tuple[int, int, int] | None:
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, uid, gid = _CREDENTIALS.unpack(_getsockopt(sock, socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(pid), int(uid), int(gid)
