"""What a server is asked, in one probe: adapters from outside name their questions as they like."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer

import pytest

from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.questions import probe


class Echo(BaseHTTPRequestHandler):
    """Answers with the path it was asked for."""

    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def asked(port: int, *questions: Question) -> dict[str, str]:
    command = probe(port, questions).command
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    return {name: answer.body for name, answer in http_probe.answers(done.stdout).items()}


@pytest.mark.parametrize("name", ["base", "PATH", "held", "where", "answer", "IFS", "1st", "_"])
def test_a_question_is_called_as_the_adapter_likes(name: str, port: int) -> None:
    first = Question(name, "/first", holds="first", holds_where="first")
    second = Question(f"{name}_2", "/none", otherwise=Question(f"{name}_3", "/third", holds="third"))
    assert asked(port, first, second, Question("last", "/last")) == {
        name: "/first",
        f"{name}_2": "/none",
        f"{name}_3": "/third",
        "last": "/last",
    }


@pytest.mark.parametrize("name", ["", "model-ready", "a b", "$(exit 3)", "é", "a\n"])
def test_a_name_that_no_answer_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name has letters, digits and _ only"):
        Question(name, "/")


@pytest.mark.parametrize("path", ["", "health", "http://127.0.0.1/"])
def test_a_path_begins_with_a_slash(path: str) -> None:
    with pytest.raises(ValueError, match="a path begins with /"):
        Question("a", path)
