"""200 tests on one instance with 1, 4 and 16 workers, beside the same tests against a server started by hand.

``python -m tests.benchmarks.sharing`` rents from a market that keeps Vast's rate limits. What was rented, and how often
the API was called, is what that market's own accounts say. The yardstick is the same suite with as many workers and
without the plugin, against the same server, which runs already. What lies between the two is the price of renting
(create, boot, SSH, check, giving back), once for all tests, and of the tunnel.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.vast.throttle import INTERVALS_S
from tests.benchmarks import report
from tests.benchmarks import suite

SERVER = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"here I am")

    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
TESTS = """
import urllib.request, pytest

@pytest.mark.parametrize("n", range({tests}))
def test_it(endpoint, n):
    with urllib.request.urlopen(endpoint, timeout=60) as answer:
        assert answer.read() == b"here I am"
"""
RENTED = """
import pytest
from pytest_vastgpu import command

@pytest.fixture
def vast_workload():
    return command("exec python3 server.py 8000", files={"server.py": "server.py"}, gpus=0, disk_gb=8)

@pytest.fixture
def endpoint(vast_instance):
    return vast_instance.endpoint
"""
BY_HAND = """
import os, pytest

@pytest.fixture
def endpoint():
    return os.environ["ENDPOINT"]
"""


def rented(directory: Path, workers: int, tests: int) -> tuple[float, dict[str, float]]:
    """Seconds of a run that rents, and what the market counted."""
    (directory / "conftest.py").write_text(RENTED, encoding="utf-8")
    with LocalMarket() as market, tempfile.TemporaryDirectory() as home:
        took = suite.run(
            directory, Path(home), f"-n{workers}", passed=tests, VAST_URL=market.url, VAST_API_KEY=market.api_key
        )
        status = market.status()
    if status["alive"]:
        raise report.Failed(f"something was left running: {status['alive']}")
    mine = [call for call in status["calls"] if call["endpoint"] != "market_status"]
    return took, {
        "rents": len(status["ended"]),
        "calls": sum(call["count"] for call in mine),
        "rate_limited": sum(call["rate_limited"] for call in mine),
        "alive_s": sum(each["ended_at"] - each["created_at"] for each in status["ended"]),
    }


def by_hand(directory: Path, workers: int, tests: int) -> float:
    """Seconds of the same tests without the plugin; the server runs before they start."""
    (directory / "conftest.py").write_text(BY_HAND, encoding="utf-8")
    server = subprocess.Popen(
        [sys.executable, str(directory / "server.py"), "0"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory() as home:
            return suite.run(directory, Path(home), f"-n{workers}", "-p", "no:vastgpu", passed=tests, ENDPOINT=endpoint)
    finally:
        server.kill()
        server.communicate()


def measure(workers: int, tests: int, rounds: int) -> list[report.Row]:
    took, counted, others = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "server.py").write_text(SERVER, encoding="utf-8")
        (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (directory / "test_it.py").write_text(TESTS.format(tests=tests), encoding="utf-8")
        for _ in range(rounds):
            others.append(by_hand(directory, workers, tests))
            seconds, counts = rented(directory, workers, tests)
            took.append(seconds)
            counted.append(counts)
    name = f"{tests} tests, {workers} worker{'s' if workers > 1 else ''}"
    mine, theirs = statistics.median(took), statistics.median(others)
    return [
        report.Row(
            f"{name}: the whole run",
            mine,
            others=theirs,
            beside="server by hand",
            facts={"seconds": took, "others_seconds": others, "market": counted},
        ),
        report.Row(f"{name}: instances rented", max(each["rents"] for each in counted), "", most=1),
        report.Row(f"{name}: API calls", max(each["calls"] for each in counted), ""),
        # One of each kind tells a client that this market sets limits.
        report.Row(
            f"{name}: API calls refused as too many",
            max(each["rate_limited"] for each in counted),
            "",
            most=len(INTERVALS_S),
        ),
    ]


def rows(quick: bool) -> list[report.Row]:
    return [
        row
        for workers in ((2,) if quick else (1, 4, 16))
        for row in measure(workers, tests=4 if quick else 200, rounds=1 if quick else 3)
    ]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
