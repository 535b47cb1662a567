"""The market's side of the nursery: the one process that all instances are forked from."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_vastgpu
from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.container.isolation import Isolation

if TYPE_CHECKING:
    from collections.abc import Sequence


class ForkServer:
    """A running nursery. It ends when this process does, however that comes about, or with :meth:`close`."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            roots = [str(Path(pytest_vastgpu.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_vastgpu.local.container.init", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",  # nothing in the user's directory shall be imported in place of what is meant
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots))},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for the market, which then ends in good order
            )
        self._isolation: Isolation | None = None
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether it can still start instances."""
        return self._process.poll() is None

    def isolation(self) -> Isolation:
        """What isolation this system allows; waits for the nursery to have started.

        :raises LocalMarketError: It did not start.
        """
        with self._lock:
            if self._isolation is None:
                with self._ours.makefile("rb") as lines:
                    line = lines.readline()
                if not line:
                    raise LocalMarketError(
                        f"the program that starts instances ended with exit code {self._process.wait()}; its own "
                        "message is above. Is the extra installed: pip install 'pytest-vastgpu[local]'?"
                    )
                self._isolation = Isolation(**json.loads(line))
            return self._isolation

    def fork(self, sockets: Sequence[socket.socket]) -> None:
        """Starts a guest with these sockets, the first of which controls it."""
        self.isolation()
        try:
            with self._lock:
                socket.send_fds(self._ours, [b"!"], [each.fileno() for each in sockets])
        except OSError as error:
            raise LocalMarketError(
                f"the program that starts instances has ended ({error}); create the instance again"
            ) from error

    def close(self) -> None:
        """Ends the nursery, and every instance that still runs."""
        self._ours.close()
        self._process.wait()


_fork_server: ForkServer | None = None
_choosing = threading.Lock()


def _current() -> ForkServer:
    global _fork_server
    with _choosing:
        if _fork_server is not None and not _fork_server.alive:
            _fork_server.close()
            _fork_server = None
        if _fork_server is None:
            _fork_server = ForkServer()
        return _fork_server


async def running_fork_server() -> ForkServer:
    """The nursery of this process, started by the first who asks."""
    current = _current()
    await asyncio.to_thread(current.isolation)
    return current


@atexit.register
def close_fork_server() -> None:
    """Ends this process's nursery and its instances, if there is one; the next instance starts another."""
    global _fork_server
    with _choosing:
        if _fork_server is not None:
            _fork_server.close()
            _fork_server = None
