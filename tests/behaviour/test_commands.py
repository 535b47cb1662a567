"""The commands of ``vastgpu`` beside a run that lives, on the local market that belongs to it."""

from __future__ import annotations

import json
import re

import pytest

from tests.behaviour.test_switch import NO_GPU
from tests.support.runs import run_directories

LOOKS = """
import json, subprocess, sys

def vastgpu(*words):
    done = subprocess.run([sys.executable, "-m", "pytest_vastgpu", *words], capture_output=True, text=True)
    print(json.dumps([words[0], done.returncode, done.stdout, done.stderr]))

def test_it(vast_instance):
    vastgpu("ls", "--json")
    vastgpu("logs")
    vastgpu("ssh", str(vast_instance.id), "echo it is $VAST_CONTAINERLABEL; exit 4")
    vastgpu("runs", "--json")
    print([path.name for path in __import__("pathlib").Path.home().glob(".local/state/pytest-vastgpu/runs/*/*")])
"""


def test_a_living_run_on_its_own_market_is_found_without_a_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    server = "print('serving', flush=True)\nimport http.server as h\nh.HTTPServer(('127.0.0.1', 8000), type('H', (h.BaseHTTPRequestHandler,), {'do_GET': lambda s: (s.send_response(200), s.end_headers()), 'log_message': lambda *_: None})).serve_forever()\n"
    pytester.path.joinpath("server.py").write_text(server)
    pytester.makepyfile(NO_GPU + LOOKS)
    result = pytester.runpytest_subprocess("-s")
    result.assert_outcomes(passed=1)
    print(result.stdout.str())
    assert 0
