"""Closes this process's own descriptors in forked children.

A child that is forked without starting another program (multiprocessing, pytest-forked) inherits every descriptor. It
would keep a lock held, or a connection open, after this process has died. So it closes these before anything else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref

_descriptors: set[int] = set()
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_close_socket = socket.socket.close


def keep_private(descriptor: int) -> int:
    """Make forked children close this descriptor; returns it."""
    _descriptors.add(descriptor)
    return descriptor


def keep_private_socket(sock: socket.socket) -> socket.socket:
    """Make forked children close this socket; returns it."""
    _sockets.add(sock)
    return sock


def close_private(descriptor: int) -> None:
    """Close the descriptor in this process; other code may have closed it already."""
    _descriptors.discard(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _close_inherited() -> None:
    while _descriptors:
        with contextlib.suppress(OSError):  # a test has closed it
            os.close(_descriptors.pop())
    for sock in list(_sockets):
        with contextlib.suppress(OSError):
            _close_socket(sock)


os.register_at_fork(after_in_child=_close_inherited)
