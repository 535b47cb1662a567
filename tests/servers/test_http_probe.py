from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.servers.standing_still import Listener
from pytest_vastgpu.servers.standing_still import listeners
from pytest_vastgpu.servers.system_probes import LISTENERS
from pytest_vastgpu.servers.vllm import VllmAdapter
from pytest_vastgpu.servers.vllm import vllm
from tests.support.looks import refusing

KEY = "s3cret-key"


class OpenAIServer(ThreadingHTTPServer):
    """Speaks the part of vLLM's HTTP API that is asked; what it answers can be set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.healthy = True
        self.models = ["tiny"]
        self.completion: tuple[int, object] = (200, {"choices": [{"text": "x"}]})
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.on_request: Callable[[], None] = lambda: None
        self.on_headers: Callable[[Message], None] = lambda headers: None

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    server: OpenAIServer

    def do_GET(self) -> None:
        self._note()
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": name} for name in self.server.models]})
        elif self.path in ("/health", "/"):
            self._send(200 if self.server.healthy else 503, "")
        elif self.path == "/moved":
            self._send(307, "", Location="/moved/")
        else:
            self._send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        self._note()
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] not in self.server.models or asked["max_tokens"] != 1:
            self._send(404, {"detail": "no such model"})
        else:
            self._send(*self.server.completion)

    def _note(self) -> None:
        self.server.on_request()
        self.server.on_headers(self.headers)
        self.server.asked.append(self.path)
        self.server.keys.append(self.headers.get("Authorization"))

    def _send(self, status: int, body: object, **headers: str) -> None:
        data = json.dumps(body).encode() if body else b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def command_lines() -> Iterator[str]:
    """Those of all processes on this machine."""
    for process in os.listdir("/proc"):  # noqa: PTH208 - pathlib also looks at processes that have just ended
        try:
            yield Path("/proc", process, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # no process, or it has just ended


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server, serving(server):
        yield server


@pytest.fixture(params=["curl", "python3", "bash"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH that holds only one of the HTTP clients, as a bare image does."""
    tools = ["sh", "cat", "date", "mv", "mkdir", "timeout", "printf", "ps", request.param]
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in tools:
        found = sys.executable if tool == "python3" else shutil.which(tool)
        if found is None:
            if tool == request.param:
                pytest.skip(f"{tool} is not on this machine")
            continue
        (folder / tool).symlink_to(found)
    return str(folder)


def run(probe: Probe, path: str, home: Path) -> ProbeResult:
    env = {"PATH": path, "HOME": str(home), "VASTGPU_API_KEY": KEY}
    shell = shutil.which("sh")
    assert shell is not None
    # Each request is asked again and again for real; here it is asked once, on a machine that may be busy.
    patient = re.sub(r"\b(ask \w+ \S+) \d+", r"\1 50", probe.command)
    done = subprocess.run([shell, "-c", patient], env=env, capture_output=True, text=True, timeout=60)
    failure = ProbeFailure.COMMAND if done.returncode else ProbeFailure.NONE
    return ProbeResult(probe.name, failure, done.returncode, done.stdout, done.stderr, 0.0)


def look(path: str, home: Path, port: int, model: str = "tiny") -> Readiness:
    workload = vllm(model, port=port, gpus=0)
    adapter = VllmAdapter()
    results = {probe.name: run(probe, path, home) for probe in adapter.probes(workload)}
    return adapter.assess(workload, Observation(results, "", None, 1.0))


def test_ready_when_the_model_is_listed_and_completes(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    assert look(path, tmp_path, server.port) == Ready()
    assert server.asked == ["/health", "/v1/models", "/v1/completions"]
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_a_server_gets_its_key_in_the_header_that_it_reads(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    class Own(VllmAdapter):
        key_header = "X-Api-Key: v1 "

    seen: list[str | None] = []
    server.on_headers = lambda headers: seen.append(headers.get("X-Api-Key"))
    assert Own().headers(vllm("m"), KEY) == {"X-Api-Key": f"v1 {KEY}"}
    answers, *_ = Own().probes(vllm("tiny", port=server.port, gpus=0))
    run(answers, path, tmp_path)
    assert seen == [f"v1 {KEY}"] * 3
    assert server.keys == [None] * 3


def test_nothing_listens_yet(path: str, tmp_path: Path) -> None:
    with refusing() as port:
        assert look(path, tmp_path, port) == Warming(Progress("starting"))


def test_not_healthy_yet_is_asked_nothing_more(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    server.healthy = False
    assert look(path, tmp_path, server.port) == Warming(Progress("starting"))
    assert server.asked == ["/health"]


def test_another_model_is_served(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    found = look(path, tmp_path, server.port, model='it\'s "mine"; $(exit 3)')
    assert isinstance(found, Failed)
    assert found.verdict.reason == "model_not_listed"
    assert "/v1/completions" not in server.asked


def test_a_name_full_of_quotes_is_asked_for_as_it_is(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    name = """it's "mine"; $(exit 3) `x` *"""
    server.models = [name]
    assert look(path, tmp_path, server.port, model=name) == Ready()


def test_a_model_that_completes_nothing(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    server.completion = (404, {"detail": "Not Found"})
    found = look(path, tmp_path, server.port)
    assert isinstance(found, Failed)
    assert found.verdict.reason == "model_completes_no_text"


@pytest.mark.parametrize("completion", [(500, {"error": "later"}), (200, {"choices": []}), (200, {"choices": [{}]})])
def test_a_completion_that_is_none_is_waited_for(
    server: OpenAIServer, path: str, tmp_path: Path, completion: tuple[int, object]
) -> None:
    server.completion = completion
    assert look(path, tmp_path, server.port) == Warming(Progress("serving"))


def test_any_server_by_its_path_and_its_models(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    adapter = CommandAdapter()
    for workload, expected in (
        (command("serve", port=server.port, gpus=0), Ready()),
        (command("serve", port=server.port, gpus=0, model="tiny"), Ready()),
        (command("serve", port=server.port, gpus=0, model="other"), Warming(Progress("serving"))),
        (command("serve", port=server.port, gpus=0, ready_path="/nowhere"), Warming(Progress("answering"))),
    ):
        results = {probe.name: run(probe, path, tmp_path) for probe in adapter.probes(workload)}
        assert adapter.assess(workload, Observation(results, "", None, 1.0)) == expected


def test_no_redirect_is_followed_and_where_it_leads_is_told(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    probe = Probe("answers", http_probe.script(server.port, http_probe.request("ready", "/moved")))
    answer = http_probe.answers(run(probe, path, tmp_path).stdout)["ready"]
    place = f"http://127.0.0.1:{server.port}/moved"
    assert (answer.status, answer.url, answer.redirect) == (307, place, f"{place}/")
    assert server.asked == ["/moved"]


def test_a_server_with_a_certificate_answers_where_it_is_asked_by_https(path: str, tmp_path: Path) -> None:
    names = [f"{tmp_path}/{name}.pem" for name in ("key", "certificate")]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on this machine")
    subprocess.run([*make, "-keyout", names[0], "-out", names[1], "-subj", "/CN=any"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(names[1], names[0])
    with OpenAIServer() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # it is asked by HTTP, too
        place = f"127.0.0.1:{server.port}"
        with serving(server):
            probe = Probe("elsewhere", http_probe.elsewhere([("http", place), ("https", place)], "/health"))
            found = http_probe.answers(run(probe, path, tmp_path).stdout)
    status = 0 if (Path(path) / "bash").exists() else 200  # bash alone speaks no TLS
    assert [(answer.url, answer.status) for answer in found.values()] == [(f"https://{place}/health", status)] * 2


def test_a_place_that_answers_by_http_is_not_asked_by_https(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    probe = Probe("elsewhere", http_probe.elsewhere([("http", f"127.0.0.1:{server.port}")], "/health"))
    (answer,) = http_probe.answers(run(probe, path, tmp_path).stdout).values()
    assert (answer.status, server.asked) == (200, ["/health"])


@pytest.mark.parametrize("shell", [["dash"], ["busybox", "sh"]])
@pytest.mark.parametrize("how", ["", "setsid "])
def test_where_the_servers_own_processes_listen(shell: list[str], how: str, server: OpenAIServer) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not on this machine")
    listen = "import socket as s; a = s.create_server(('127.0.0.1', 0)); print(a.getsockname()[1], flush=True); input()"
    start = f"exec {how}{shlex.quote(sys.executable)} -c {shlex.quote(listen)}"
    env = {**os.environ, "VASTGPU_API_KEY": secrets.token_hex()}  # of this test alone
    pipes: dict[str, int] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["sh", "-c", start], env=env, text=True, **pipes) as process:  # type: ignore[call-overload]
        port = int(process.stdout.readline())
        done = subprocess.run(
            [*shell, "-c", LISTENERS.command], env=env, capture_output=True, text=True, timeout=60, check=True
        )
        process.communicate("\n")
    assert listeners(done.stdout) == (Listener("127.0.0.1", port),), "and not the server of the fixture"


def test_the_key_is_on_no_command_line(server: OpenAIServer, path: str, tmp_path: Path) -> None:
    for probe in (*VllmAdapter().probes(vllm("tiny")), *CommandAdapter().probes(command("serve"))):
        assert KEY not in probe.command
    seen: list[str] = []

    server.on_request = lambda: seen.extend(command_lines())
    run(VllmAdapter().probes(vllm("tiny", port=server.port))[0], path, tmp_path)
    assert any(f":{server.port}/v1/completions" in line for line in seen)
    assert not any(KEY in line for line in seen)


def test_answers_are_told_apart() -> None:
    output = 'hello\n@@ health 200\n{"data": [{"id": "a"}, 3]}\n@@ models 200\ncurl: (7) no\n\n@@ completion 000\n'
    found = http_probe.answers(output)
    assert {name: answer.status for name, answer in found.items()} == {"health": 200, "models": 200, "completion": 0}
    assert http_probe.listed_models(found["models"]) == ("a",)
    assert http_probe.listed_models(http_probe.Answer(200, "no json")) is None
    assert http_probe.listed_models(http_probe.Answer(401, '{"data": []}')) is None


def test_a_line_of_a_body_is_no_end_of_an_answer() -> None:
    found = http_probe.answers("{\n health 200\n}\n@@ models 503\n")
    assert list(found) == ["models"]
