"""Servers that print something bad and live: only what they do afterwards counts."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet

VLLM = """
import argparse, http.server, json
parser = argparse.ArgumentParser()
parser.add_argument("--model"), parser.add_argument("--port", type=int)
model, port = (given := parser.parse_known_args()[0]).model, given.port
print("OSError: [Errno 98] Address already in use", flush=True)
print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", flush=True)
print("RuntimeError: CUDA error: uncorrectable ECC error encountered", flush=True)
asked = 0

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status), self.end_headers(), self.wfile.write(json.dumps(body).encode())
    def do_GET(self):
        global asked
        asked += 1
        self.answer(503 if asked < 4 else 200, {"data": [{"id": model}]})
    def do_POST(self):
        self.answer(200, {"choices": [{"text": "x"}]})
    def log_message(self, *_): pass

http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
"""Stands in for vLLM: complains three times, and becomes ready after a few looks."""

OLLAMA = """
import http.server
print('time=2026 level=INFO msg="Listening on 127.0.0.1:8000 (version 1)"', flush=True)
print('time=2026 level=INFO msg="inference compute" id=cpu library=cpu total="62.5 GiB"', flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers()
    def log_message(self, *_): pass

http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
"""Stands in for Ollama where no GPU is found: it serves all the same."""


@pytest.mark.slow
def test_a_server_that_gets_over_what_it_printed_is_used(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"machines": [{}]})
    pytester.path.joinpath("server.py").write_text(VLLM, encoding="utf-8")
    pytester.makepyfile(
        """
import dataclasses, httpx, pathlib, pytest
from pytest_vastgpu import vllm

FILES = (("vllm/entrypoints/openai/api_server.py", str(pathlib.Path("server.py").resolve())),)

@pytest.fixture
def vast_workload():
    return dataclasses.replace(vllm("tiny", image="mine:1"), files=FILES)

def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).status_code == 200
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "outcomes"), [(1, {"errors": 1}), pytest.param(0, {"passed": 1}, marks=pytest.mark.slow)]
)
def test_to_serve_without_the_gpu_that_was_rented_is_not_to_be_ready(
    gpus: int, outcomes: dict[str, int], pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from(fleet())
    pytester.path.joinpath("server.py").write_text(OLLAMA, encoding="utf-8")
    pytester.makepyfile(
        f"""
import pytest
from pytest_vastgpu import command

@pytest.fixture
def vast_workload():
    return command("exec python3 server.py", files={{"server.py": "server.py"}}, gpus={gpus})

def test_it(vast_instance): pass
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(**outcomes)
    if gpus:
        result.stdout.fnmatch_lines(["*no_gpu_in_container*", "*library=cpu*"])
