"""A local market's directory, which belongs to one market at a time, and its sockets."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from filelock import Timeout

from pytest_vastgpu.core.directories import LONGEST_SOCKET_PATH
from pytest_vastgpu.core.directories import fresh_directory
from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.directories import shared_by_own_processes
from pytest_vastgpu.core.directories import socket_directory
from pytest_vastgpu.errors import LocalMarketError

_START_LOCK_S = 30.0
"""Limit of the wait for another market that starts; it holds the lock for milliseconds."""


@dataclass(frozen=True)
class Served:
    """The sockets of a market, and the directory for the disks of instances."""

    tcp: socket.socket
    unix: socket.socket
    socket_path: Path
    disks: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.tcp.getsockname()[1]}"


@contextmanager
def state_directory(wanted: Path | None) -> Iterator[Path]:
    """Lock a directory for this market, and remove the disks that an earlier market left in it.

    :raises LocalMarketError: if it cannot be used, or another market uses it.
    """
    with ExitStack() as stack:
        state = wanted
        try:
            with ExitStack() as starting:
                state = private_directory(wanted) if wanted else _own_directory(starting)
                _require_text(state)
                stack.enter_context(FileLock(state / "market.lock", timeout=0))
            stack.callback(shutil.rmtree, state / "instances" if wanted else state, ignore_errors=True)
            shutil.rmtree(state / "instances", ignore_errors=True)
            (state / "instances").mkdir()
        except Timeout as busy:
            if wanted is None:
                raise LocalMarketError(
                    f"another local market has been starting for {_START_LOCK_S:g} s and holds {busy.lock_file}: end it"
                ) from None
            raise LocalMarketError(
                f"another local market uses the state directory {state}: end it, or give this one another --state-dir"
            ) from None
        except OSError as error:
            raise LocalMarketError(_unusable(wanted, error)) from error
        yield state


def _own_directory(starting: ExitStack) -> Path:
    """Make a fresh directory, and remove those of markets that were killed.

    :param starting: Holds a lock until the fresh directory has its own, so that no other market removes it.
    """
    parent = shared_by_own_processes()
    if parent is None:  # it belongs to another user, or others may write to it
        return fresh_directory("market")
    starting.enter_context(FileLock(parent / "start.lock", timeout=_START_LOCK_S))
    for old in parent.glob("market-*"):
        with suppress(Timeout, OSError), FileLock(old / "market.lock", timeout=0):
            shutil.rmtree(old, ignore_errors=True)
    return fresh_directory("market", parent)


def _require_text(path: Path) -> None:
    """Check that a path is text: SSH servers and shells in an instance read it.

    :raises OSError: if it is not text in UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise OSError(errno.EILSEQ, "its name is not text in UTF-8", ascii(str(path))) from error


def _unusable(state: Path | None, error: OSError) -> str:
    why = error.strerror or error
    if state is None:
        return f"no state directory can be made ({why}): set TMPDIR to a directory of yours, or give a --state-dir"
    return f"the state directory {state} cannot be used ({why}): give another --state-dir"


@contextmanager
def opened_sockets(state: Path, port: int) -> Iterator[Served]:
    """Listen on the port, and on a socket in the directory.

    :raises LocalMarketError: if one of them cannot be used.
    """
    # asyncio turns off Nagle's algorithm, which delays each answer by 40 ms, only if the protocol is given.
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    unix = socket.socket(socket.AF_UNIX)
    path = state / "api.sock"
    short = None
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        try:
            short = socket_directory()
        except OSError as error:
            raise LocalMarketError(_unusable(state, error)) from error
        path = short / path.name
    path.unlink(missing_ok=True)
    try:
        try:
            tcp.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            way_out = "another program has it; give another --port, or none for a free one" if taken else str(error)
            raise LocalMarketError(f"port {port} on 127.0.0.1 cannot be used: {way_out}") from error
        unix.bind(str(path))
        for each in (tcp, unix):
            each.listen(512)
        yield Served(tcp, unix, path, state / "instances")
    finally:
        tcp.close()
        unix.close()
        path.unlink(missing_ok=True)
        if short is not None:
            short.rmdir()
