"""A test measures the server of its instance, on a whole run."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import RentFrom

SERVER = """
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "lost":
            os._exit(3)
        if asked["model"] == "wrong":
            return self.answer(404, b"no model " + self.headers["Authorization"].encode())
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        tokens = [{"choices": [{"text": " a"}]}] * 3 + [{"choices": [], "usage": {"completion_tokens": 3}}]
        for event in [*map(json.dumps, tokens), "[DONE]"]:
            event = f"data: {event}\\n\\n".encode()
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(event), event))
        self.wfile.write(b"0\\r\\n\\r\\n")

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer(200, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""

SUITE = """
import pytest
from pytest_vastgpu import chat, command, completions, http_load, kserve, shell

FAST = {"warmup_s": 0.0, "timeout_s": 30}

@pytest.fixture
def vast_workload():
    return command("exec python3 server.py", files={"server.py": "server.py"}, gpus=1)

def test_1_every_load(vast_instance):
    for load in (
        completions(model="m", concurrency=2, **FAST),
        completions(model="m", rate=30.0, **FAST),
        http_load("/health", **FAST),
        shell("cat .vastgpu/work/server.py", **FAST),
    ):
        assert vast_instance.measure(load, seconds=1)["requests"].value > 0

def test_2_no_process_list_shows_the_key(vast_instance):
    key = vast_instance.api_key
    look = f"! cat /proc/[0-9]*/cmdline | grep -q '[{key[0]}]{key[1:]}'"  # which is not in this command itself
    vast_instance.measure(shell(look, **FAST), seconds=1)

def test_3_wrong(vast_instance):
    vast_instance.measure(completions(model="wrong", **FAST), seconds=1)

def test_4_lost(vast_instance):
    vast_instance.measure(completions(model="lost", **FAST), seconds=1)
"""


@pytest.mark.slow
def test_a_server_is_measured_from_within_and_a_failure_is_one_line(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from({"machines": [{}]})
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            '>       vast_instance.measure(completions(model="wrong", **FAST), seconds=1)',
            "E       *MeasurementFailed: * failed (HTTP 404: *), the first *: HTTP 404: no model Bearer <instance key>",
            '>       vast_instance.measure(completions(model="lost", **FAST), seconds=1)',
            "E       *MeasurementFailed: * requests failed (*",
            "*- vastgpu: 5 measurements -*",
            "*test_1_every_load*",
            "*test_2_no_process_list_shows_the_key*",
        ]
    )
    result.stdout.no_fnmatch_line("*client/measure.py*")
