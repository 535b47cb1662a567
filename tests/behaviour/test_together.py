"""Two servers at a time on one instance of the local market: real processes, for a test and for ``vast_compare``."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

import pytest

from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.behaviour.conftest import fleet
from tests.support.looks import alive
from tests.support.looks import until

NAME = f"{secrets.token_hex()}.py"
"""No other process has it in its command line: an instance may have process ids of its own."""
SERVER = """
import http.server, os, socket, sys
with open("PIDS", "a") as file: print(os.getpid(), file=file)
PORT, OTHER, ANSWERS = map(int, sys.argv[1:])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    left = ANSWERS
    def do_GET(self):
        if self.path == "/both":
            Handler.left -= 1
            if not Handler.left:
                print("the one at", PORT, "has had enough", flush=True)
                os._exit(3)
            socket.create_connection(("127.0.0.1", OTHER)).close()  # the request fails unless the other lives, too
        text = str(os.getpid()).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""
HEAD = """
import urllib.request
from pytest_vastgpu import command, http_load

def served(port, answers=0):
    words = f"exec python3 NAME {port} {8000 + 8001 - port} {answers}"
    return command(words, files={"NAME": "a_server.py"}, gpus=1, port=port)

def compared(vast_compare, candidate):
    load = http_load("/both", warmup_s=0.1, timeout_s=20)
    small = {"rounds": 2, "blocks": 1, "seconds": 0.5, "together": True}
    return vast_compare(baseline=served(8000), candidate=candidate, load=load, **small)
"""
A_TESTS_OWN = f"""{HEAD}
def pid(lease):
    return urllib.request.urlopen(lease.endpoint, timeout=20).read().decode()

def lives(instance, pid):
    return instance.run(f"grep -q '^State:[[:space:]]*[^Z[:space:]]' /proc/{{pid}}/status").ok

def test_both_live_and_end(vast_instance_factory):
    instance = vast_instance_factory(served(8000))
    first = instance.serve(served(8000))
    second = instance.serve_beside(served(8001))
    pids = [pid(first), pid(second)]
    assert pids[0] != pids[1]
    assert all(lives(instance, each) for each in pids)
    assert instance.endpoint == second.endpoint
    instance.serve(served(8000))
    assert not any(lives(instance, each) for each in pids)
    assert instance.fate(second.mark) is None
"""
THE_SAME = f"""{HEAD}
def test_the_same(vast_compare):
    result = compared(vast_compare, served(8001))
    assert all(len(host.rounds) == 2 for host in result.hosts)
    print("notes:", result.notes)
"""
DIES = f"""{HEAD}
def test_dies(vast_compare):
    compared(vast_compare, served(8001, answers=2))
"""
NO_START = f"""{HEAD}
def test_no_start(vast_compare):
    compared(vast_compare, served(8001, answers="nonsense"))
"""
ONE_PORT = f"""{HEAD}
def test_one_port(vast_compare):
    compared(vast_compare, served(8000, answers=9))
"""


def write(pytester: pytest.Pytester, *texts: str) -> None:
    pytester.path.joinpath("a_server.py").write_text(SERVER.replace("PIDS", str(pytester.path / "pids")))
    text = HEAD + "".join(text.removeprefix(HEAD) for text in texts)
    pytester.makepyfile(test_it=text.replace("NAME", NAME))


def servers() -> int:
    """How many of our servers run on this machine."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found += NAME.encode() in path.read_bytes()
    return found


@pytest.mark.slow
def test_both_live_at_a_time_and_nothing_of_them_is_left(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(fleet())
    write(pytester, A_TESTS_OWN, THE_SAME)
    run = start(AGGRESSIVE, "-v", "-s")
    assert run.rest() == pytest.ExitCode.OK
    words = "both servers ran at a time, each with part of the memory"
    told = f" and 5 starts of a server on a host, {words.replace(' ran', '')}, at most "
    assert told in " ".join(run.output.split())
    assert f"notes: ['{words}'" in run.output
    assert not alive(market)
    pids = pytester.path.joinpath("pids").read_text().split()
    assert len(pids) == 4 + 5
    until(servers, lambda count: count == 0)


@pytest.mark.slow
def test_a_side_that_fails_is_named_with_its_own_log(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(fleet())
    write(pytester, DIES, NO_START)
    run = start(AGGRESSIVE, "-v")
    assert run.rest() == pytest.ExitCode.TESTS_FAILED
    output = " ".join(run.output.split())
    assert "the candidate failed in round 1 on machine" in output
    assert "; the server ended with exit code 3 at " in output
    assert "the one at 8001 has had enough" in output
    assert "the candidate did not start in round 1 on machine" in output
    assert ", where the baseline did: " in output
    assert "invalid literal for int() with base 10: 'nonsense'" in output
    assert "2 failed" in output
    assert not alive(market)


@pytest.mark.slow
def test_two_that_listen_on_one_port_rent_nothing(pytester: pytest.Pytester, rent_from: RentFrom, start: Start) -> None:
    market = rent_from(fleet())
    write(pytester, ONE_PORT)
    run = start(AGGRESSIVE)
    assert run.rest() == pytest.ExitCode.TESTS_FAILED
    words = "cannot run at a time (together=True): both listen on port 8000; give one of them another port="
    assert words in " ".join(run.output.split())
    assert not any(call["endpoint"] == "create" for call in market.status()["calls"])
