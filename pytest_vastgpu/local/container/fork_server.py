"""The market's side of the fork server: the process that all container inits are forked from."""

from __future__ import annotations

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
    """A running fork server. It ends with :meth:`close`, and when this process ends, even by SIGKILL."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            roots = [str(Path(pytest_vastgpu.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_vastgpu.local.container.init", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",  # modules in the user's directory must not shadow imports
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots))},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C must reach only the market, which then ends it
            )
        self._isolation: Isolation | None = None
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether it can still start instances."""
        return self._process.poll() is None

    def isolation(self) -> Isolation:
        """Return the isolation that this system allows; waits for the fork server to start.

        :raises LocalMarketError: if it does not start.
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
        """Start a container init with these sockets; the first one controls it.

        :raises LocalMarketError: if the fork server has ended.
        """
        self.isolation()
        try:
            with self._lock:
                socket.send_fds(self._ours, [b"!"], [each.fileno() for each in sockets])
        except OSError as error:
            raise LocalMarketError(
                f"the program that starts instances has ended ({error}); create the instance again"
            ) from error

    def close(self) -> None:
        """End the fork server, and every instance that still runs."""
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


def begin_fork_server() -> None:
    """Start the fork server of this process, without a wait, where it does not run yet."""
    _current()


async def running_fork_server() -> ForkServer:
    """Return the fork server of this process; the first call starts it."""
    import asyncio  # late: the fork server shall be on its way before this process has imported that

    current = _current()
    await asyncio.to_thread(current.isolation)
    return current


@atexit.register
def close_fork_server() -> None:
    """End the fork server of this process, if there is one, and its instances. The next instance starts another."""
    global _fork_server
    with _choosing:
        if _fork_server is not None:
            _fork_server.close()
            _fork_server = None
