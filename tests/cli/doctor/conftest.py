from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from datetime import timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pytest_vastgpu.cli.doctor import limits
from pytest_vastgpu.cli.doctor.limits import Limits
from pytest_vastgpu.cli.doctor.situation import Situation
from tests.support.looks import PATIENCE_S

_OF_THE_DESK = ("TERM", "PYTEST_PLUGINS", "TMPDIR")


@pytest.fixture(autouse=True)
def _plain_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing either that other tests may know of the person who runs them."""
    proxies = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]
    for name in (*_OF_THE_DESK, *proxies, *map(str.upper, proxies)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No check is late because this machine is busy; where a test waits for silence, it says for how long."""
    of = Limits.of
    monkeypatch.setattr(limits, "_NETWORK_S", PATIENCE_S)
    monkeypatch.setattr(Limits, "of", lambda timeouts: replace(of(timeouts), look_s=PATIENCE_S))


@pytest.fixture
def here(home: Path) -> Situation:
    """A desk without a key."""
    return Situation({}, home, Path(), Limits(PATIENCE_S, PATIENCE_S, PATIENCE_S), None)


@contextmanager
def market_whose_clock_is(ahead_s: float) -> Iterator[str]:
    """The URL of a market that knows no key, and whose clock is so many seconds ahead."""

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            now = datetime.now().astimezone() + timedelta(seconds=ahead_s)
            return format_datetime(now)

        def _refuse(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = b'{"success": false, "error": "auth_error", "msg": "Invalid user key"}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = _refuse  # noqa: N815 - names that http.server asks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()
