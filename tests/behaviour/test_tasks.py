"""A server with a task of its own, from its start to a test: a real run on the local market."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import RentFrom

SERVER = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"data": [{"id": "listener"}]})
    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        heard = self.path == "/v1/audio/transcriptions" and b"RIFF" in sent and b"WAVE" in sent and b"listener" in sent
        self.answer({"text": "hm"} if heard else {"detail": self.path}, 200 if heard else 404)
    def answer(self, body, status=200):
        mine = self.headers["Authorization"] == "Bearer " + os.environ["VASTGPU_API_KEY"]
        self.send_response(status if mine else 401); self.end_headers(); self.wfile.write(json.dumps(body).encode())
http.server.ThreadingHTTPServer((os.environ["VASTGPU_HOST"], 8000), Handler).serve_forever()
"""
SUITE = """
import httpx, pytest
from pytest_vastgpu import openai_server

def listener(task):
    command = "exec python3 server.py"
    return openai_server(command, model="listener", task=task, files={"server.py": "server.py"}, gpus=0)

@pytest.mark.vast(listener("transcribe"))
def test_it_is_ready_and_asks_for_the_key(vast_instance):
    assert httpx.get(vast_instance.endpoint, headers=vast_instance.headers, timeout=60).status_code == 200
    assert httpx.get(vast_instance.endpoint, timeout=60).status_code == 401

@pytest.mark.vast(listener("embed"))
def test_it_embeds(vast_instance):
    pass
"""


@pytest.mark.slow
def test_a_sound_reaches_the_server_and_a_wrong_task_is_told_with_the_right_one(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from({"this_machine": True})
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("--vast-attempts=1")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*failed while warming: workload_fatal: model_not_for_task*",
            "*evidence: /v1/embeddings answered 404: *",
            "*what to do: the model does not embed, but it does transcribe: give task='transcribe'*",
        ]
    )
