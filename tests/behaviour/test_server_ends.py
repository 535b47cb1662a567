"""Servers that end while tests use them: real runs on the local market."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet
from tests.behaviour.conftest import record_of

SERVER = """
import http.server, os, sys, time, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, words = self.path.partition("?")
        if words:
            print(urllib.parse.unquote(words), flush=True)
        if path == "/exit":
            os._exit(3)
        self.send_response(200); self.end_headers(); self.wfile.write(b"%d" % os.getpid())
    def log_message(self, *_): pass
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
WORKLOAD = """
import httpx, pytest, urllib.parse
from pytest_vastgpu import command

@pytest.fixture
def vast_workload():
    return command("exec python3 server.py", files={"server.py": "server.py"}, gpus=1, cuda=12.4)

def ask(instance, path="/", says=""):
    return httpx.get(f"{instance.endpoint}{path}?{urllib.parse.quote(says)}").text
"""


@pytest.fixture(autouse=True)
def _server(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    pytester.path.joinpath("server.py").write_text(SERVER)


def test_a_server_that_a_test_ends_is_told_and_started_again_for_the_next(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(
        WORKLOAD
        + """
def test_1_passes(vast_instance):
    ask(vast_instance, says="before it all")

def test_2_ends_it(vast_instance):
    ask(vast_instance, says="last words")
    ask(vast_instance, "/exit")

def test_3_gets_a_new_one(vast_instance):
    assert ask(vast_instance, says="new words")
    assert vast_instance.offer.machine_id == 101
    assert "again" in vast_instance.restarted

def test_4_ends_it_again_and_passes(vast_instance):
    with pytest.raises(httpx.HTTPError):
        ask(vast_instance, "/exit")

def test_5_gets_another_instance(vast_instance):
    assert vast_instance.offer.machine_id == 102
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly", "-v")
    result.assert_outcomes(failed=1, passed=4)
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD, GOOD]
    assert record_of(host_cache, BAD).infra_failures == 0
