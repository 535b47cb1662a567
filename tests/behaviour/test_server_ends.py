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
from tests.plugin.test_reports import needs_subtests

SERVER = """
import http.server, os, sys, time, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, words = self.path.partition("?")
        if words:
            print(urllib.parse.unquote(words), flush=True)
        if path == "/exit":
            os._exit(3)
        if path == "/deaf":
            self.server.socket.close()
            time.sleep(1000)
        self.send_response(200); self.end_headers(); self.wfile.write(b"%d" % os.getpid())
        if path == "/bye":
            os._exit(3)
    def log_message(self, *_): pass
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
XID = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
WORKLOAD = """
import httpx, pytest, urllib.parse
from pytest_vastgpu import command

@pytest.fixture
def vast_workload():
    return command("exec python3 server.py", files={"server.py": "server.py"}, gpus=1, cuda=12.4)

def ask(instance, path="/", says=""):
    return httpx.get(f"{instance.endpoint}{path}?{urllib.parse.quote(says)}", timeout=60).text
"""


@pytest.fixture(autouse=True)
def _server(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    pytester.path.joinpath("server.py").write_text(SERVER)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], pytest.param(["-n1"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_a_server_that_a_test_ends_is_told_and_started_again_for_the_next(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, more: list[str]
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
    assert ask(vast_instance, "/bye")  # nothing of this test shows that it has ended

def test_5_gets_another_instance(vast_instance):
    assert vast_instance.offer.machine_id == 102
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly", "--junitxml=junit.xml", *more)
    result.assert_outcomes(failed=1, passed=4)
    result.stdout.fnmatch_lines(
        ["vastgpu instance *: the server ended with exit code 3: unknown: server_exited", "*starting the server again*"]
    )
    story = [
        "the server ended with exit code 3 at *, * s after the test had got it: unknown: server_exited",
        "*what to do: *",
        "*the next test that needs it gets the server started again, on the same instance",
        "*vastgpu server log (since the test got the instance)*",
        "*last words",
    ]
    result.stdout.fnmatch_lines(["*vastgpu what became of the server*", *story])
    assert 'name="vast_server_restarted"' in pytester.path.joinpath("junit.xml").read_text()
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD, GOOD]
    assert record_of(host_cache, BAD).infra_failures == 0


@needs_subtests
@pytest.mark.slow
def test_a_server_that_ends_by_the_machines_fault_fails_no_test(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from(
        {"machines": [{"machine_id": number, "price_usd_h": number / 500} for number in range(101, 104)]}
    )
    pytester.makepyfile(
        WORKLOAD
        + f"""
XID = {XID!r}

def test_1_in_a_subtest(vast_instance, subtests):
    with subtests.test("asks"):
        ask(vast_instance, "/exit", XID)

@pytest.mark.xfail(strict=False)
def test_2_under_xfail(vast_instance):
    ask(vast_instance, "/exit", XID)

def test_3(vast_instance):
    assert vast_instance.offer.machine_id == 103
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly")
    result.assert_outcomes(errors=3, passed=1)
    result.stdout.fnmatch_lines(["the server ended with exit code 3 *: infra_fatal: gpu_fallen_off_bus", f"*{XID}"])
    result.stdout.fnmatch_lines(["101 *infra_fatal: gpu_fallen_off_bus", "102 *infra_fatal: *", "103 * ready"])
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [101, 102, 103]
    assert record_of(host_cache, BAD).infra_failures > 0
