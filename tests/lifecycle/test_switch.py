"""The dead man's switch as a real process of real shells, against a market that writes down who called."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_vastgpu.lifecycle.serverjob import HOME
from pytest_vastgpu.lifecycle.switch import Beat
from pytest_vastgpu.lifecycle.switch import Switch
from pytest_vastgpu.lifecycle.switch import beat_command
from pytest_vastgpu.lifecycle.switch import onstart
from pytest_vastgpu.lifecycle.switch import parse_beat

KEY, INSTANCE = "a-key-of-the-container", "4711"
PATIENCE_S = 20.0
BASICS = ("chmod", "date", "grep", "mkdir", "rm", "sed", "setsid", "sleep", "tail", "touch", "tr")
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here"))
    for shell in ("dash", "bash", "busybox")
]
NO_SWITCH = "its start script has not been run"


class Market:
    """An HTTP server that knows one instance and answers as it is told."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[str, str, str | None]] = queue.SimpleQueue()
        self.status = 200
        calls, market = self.calls, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                calls.put((self.command, self.path, self.headers["Authorization"]))
                self.send_response(market.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_DELETE = do_GET  # noqa: N815 - the library's own way to name them

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Market:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self) -> tuple[str, str, str | None]:
        """The next call."""
        return self.calls.get(timeout=PATIENCE_S)


@pytest.fixture
def market() -> Iterator[Market]:
    with Market() as market:
        yield market


class Box:
    """What an instance is to its start script: a home, an environment and some programs.

    :param clients: The programs that speak HTTP, which it has besides the basic ones.
    """

    def __init__(self, folder: Path, shell: str, clients: tuple[str, ...], *, key: bool = True) -> None:
        self.home = folder / "home"
        self.programs = folder / "bin"
        self.home.mkdir(parents=True)
        self.programs.mkdir()
        program = str(shutil.which(shell))
        self._link("sh", program)
        for name in BASICS:
            self._link(name, program if shell == "busybox" else str(shutil.which(name)))
        for name in clients:
            self._link(name, os.path.realpath(sys.executable) if name == "python3" else str(shutil.which(name)))
        self.environment = {"HOME": str(self.home), "PATH": str(self.programs), "CONTAINER_ID": INSTANCE}
        if key:
            self.environment["CONTAINER_API_KEY"] = KEY

    def _link(self, name: str, program: str) -> None:
        (self.programs / name).symlink_to(program)

    def run(self, script: str) -> str:
        """What a script prints, run as over SSH or at the container's start."""
        command = [str(self.programs / "sh"), "-c", script]
        done = subprocess.run(
            command, cwd=self.home, env=self.environment, capture_output=True, timeout=PATIENCE_S, check=True
        )
        return done.stdout.decode()

    def beat(self, lease_s: float, end_s: float | None = None) -> Beat:
        beat = parse_beat(self.run(beat_command(lease_s, end_s)))
        assert beat is not None
        return beat

    def settled(self) -> Switch:
        """The switch, once waiting does not change it."""
        return until(lambda: self.beat(60).switch, lambda seen: seen.settled)

    @property
    def pid(self) -> int:
        return int((self.home / HOME / "switch").read_text().split()[0])


def until(look: Callable[[], Switch], good: Callable[[Switch], bool]) -> Switch:
    deadline = time.monotonic() + PATIENCE_S
    while not good(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
    return seen


@contextmanager
def killed(box: Box) -> Iterator[None]:
    """In the end the container is gone, with the switch that is in it."""
    try:
        yield
    finally:
        descriptor = os.pidfd_open(box.pid)
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


def script(market: Market, *, lease_s: float = 5, boot_timeout_s: float = 60, lifetime_s: float = 3600) -> str:
    return onstart(market.url, lease_s=lease_s, boot_timeout_s=boot_timeout_s, lifetime_s=lifetime_s)


@pytest.mark.parametrize("client", ["curl", "python3", "wget"])
@pytest.mark.parametrize("shell", SHELLS)
def test_it_ends_its_own_instance_when_the_lease_is_over(
    tmp_path: Path, market: Market, shell: str, client: str
) -> None:
    box = Box(tmp_path, shell, (client,))
    box.run(script(market))
    with killed(box):
        assert box.settled() == Switch(True, True, client)
        path, authorization = f"/api/v0/instances/{INSTANCE}/", f"Bearer {KEY}"
        assert market.asked() == ("GET", path, authorization)
        assert market.calls.empty()
        box.beat(0)
        assert market.asked() == ("DELETE", path, authorization)
