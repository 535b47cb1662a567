"""Whole comparisons on the local market: real servers, started afresh, measured by the driver on their instances."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.behaviour.conftest import fleet
from tests.support.looks import alive

SERVER = """
import http.server, sys, time
SECONDS = float(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(SECONDS)
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
TESTS = """
import pytest
from pytest_vastgpu import command, http_load

def served(seconds, **fields):
    return command(f"exec python3 server.py {seconds}", files={"server.py": "slow_server.py"}, gpus=1, **fields)

def compared(vast_compare, candidate, baseline=0.05, **plan):
    small = {"rounds": 2, "blocks": 1, "seconds": 0.5, **plan}
    return vast_compare(baseline=served(baseline), candidate=candidate, load=http_load("/", warmup_s=0.1), **small)
"""
SLOWER = f"""{TESTS}
def test_slower(vast_compare):
    compared(vast_compare, served(0.3), 0.01, rounds=3, seconds=1).assert_no_regression(throughput=0.2)
"""
SAME = f"""{TESTS}
def test_same(vast_compare):
    compared(vast_compare, served(0.05)).assert_no_regression(throughput=0.5)
"""
ENDS = f"""{TESTS}
def test_ends(vast_compare):
    compared(vast_compare, served("nonsense"))
"""
ANOTHER_IMAGE = f"""{TESTS}
def test_image(vast_compare):
    compared(vast_compare, served(0.05, image="another/image"))
"""
LONG = f"""{TESTS}
def test_long(vast_compare):
    compared(vast_compare, served(0.05), rounds=50)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_a_slowdown_is_red_and_the_same_is_green(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, workers: list[str]
) -> None:
    market = rent_from(fleet())
    pytester.path.joinpath("slow_server.py").write_text(SERVER)
    pytester.makepyfile(test_it=SLOWER + SAME.replace(TESTS, "") + ENDS.replace(TESTS, ""))
    run = start(AGGRESSIVE, "-v", *workers)
    assert run.rest() == pytest.ExitCode.TESTS_FAILED
    assert "AssertionError: throughput: regression" in run.output
    assert "another host" not in run.output
    assert "test_it.py::test_same PASSED" in run.output or "PASSED test_it.py::test_same" in run.output
    assert "the candidate did not start in round 1 on machine" in run.output
    assert "comparing command 'exec python3 server.py 0.01' (A) with command 'exec python3 server.py 0.3' (B)" in (
        run.output
    )
    assert not alive(market)


@pytest.mark.slow
def test_sides_that_cannot_share_a_host_rent_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(fleet())
    pytester.path.joinpath("slow_server.py").write_text(SERVER)
    pytester.makepyfile(test_it=ANOTHER_IMAGE)
    run = start(AGGRESSIVE)
    assert run.rest() == pytest.ExitCode.TESTS_FAILED
    assert "one needs the image" in run.output
    assert "the other another/image; have both use the same" in run.output
    assert not any(call["endpoint"] == "create" for call in market.status()["calls"])


@pytest.mark.slow
@pytest.mark.parametrize("at", ["round 1 of 50", "SSH answers"])
def test_ctrl_c_ends_a_comparison_and_everything_is_given_back(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, at: str
) -> None:
    market = rent_from(fleet())
    pytester.path.joinpath("slow_server.py").write_text(SERVER)
    pytester.makepyfile(test_it=LONG)
    run = start(AGGRESSIVE)
    run.until(at)
    began = time.monotonic()
    os.kill(run.process.pid, signal.SIGINT)
    assert run.rest() == pytest.ExitCode.INTERRUPTED
    assert time.monotonic() - began < 60, "50 rounds take minutes"
    assert not alive(market)
