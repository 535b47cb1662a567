"""What vLLM and any OpenAI-compatible server are asked for each task, over HTTP, and what their answers mean."""

from __future__ import annotations

import email
import email.policy
import io
import json
import math
import os
import wave
from collections.abc import Callable
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers import openai_api
from pytest_vastgpu.servers import tasks
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.http_probe import Answer
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.llamacpp import LlamaCppAdapter
from pytest_vastgpu.servers.openai_server import OpenAiServerAdapter
from pytest_vastgpu.servers.openai_server import openai_server
from pytest_vastgpu.servers.sglang import SglangAdapter
from pytest_vastgpu.servers.tasks import Task
from pytest_vastgpu.servers.vllm import VllmAdapter
from pytest_vastgpu.servers.vllm import vllm
from tests.servers import test_http_probe as probing
from tests.servers import test_standing_still as settled
from tests.servers.test_adapters import result

path = probing.path
NAME = """org/it's "50%"; $(exit 3) \\ `x` é"""
VECTOR = {"data": [{"index": 0, "embedding": [0.5, -1.25]}]}
RANKED = {"results": [{"index": 0, "relevance_score": 0.9}]}
CLASS = {"data": [{"index": 0, "label": "LABEL_0", "probs": [0.25, 0.75], "num_classes": 2}]}
TEXT = {"choices": [{"index": 0, "text": "x"}]}
CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]}
ANSWERS: dict[Task, tuple[tuple[str, object], ...]] = {
    "generate": (("/v1/completions", TEXT), ("/v1/chat/completions", CHAT)),
    "embed": (("/v1/embeddings", VECTOR), ("/embeddings", VECTOR)),
    "score": (("/score", {"data": [{"score": 0.5}]}), ("/v1/rerank", RANKED), ("/rerank", [{"index": 0, "score": 1}])),
    "classify": (("/classify", CLASS), ("/v1/classify", CLASS), ("/predict", [{"label": "a", "score": 0.5}])),
    "transcribe": (("/v1/audio/transcriptions", {"text": ""}),),
}
"""What servers answer, by task and path: vLLM's way first, then those of others."""
WAYS = [(task, *way) for task, ways in ANSWERS.items() for way in ways]


class Server(ThreadingHTTPServer):
    """Answers paths as it is told, and 404 to all others."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, object]] = {"/health": (200, {})}
        self.asked: list[str] = []
        self.sent: dict[str, tuple[str, bytes]] = {}
        self.on_upload: Callable[[], None] = lambda: None

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body = self.server.answers.get(self.path, (404, {"detail": "Not Found"}))
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent[self.path] = (self.headers["Content-Type"], content)
        assert self.headers["Authorization"] == f"Bearer {probing.KEY}"
        self.server.on_upload()
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server, probing.serving(server):
        yield server


def lists(*names: str) -> tuple[int, object]:
    return 200, {"object": "list", "data": [{"id": name} for name in names]}


def look(adapter: HttpServer, workload: Workload, path: str, home: Path, log: str = "") -> Readiness:
    results = {probe.name: probing.run(probe, path, home) for probe in adapter.probes(workload)[:1]}
    return adapter.assess(workload, Observation(results, log, None, 1.0))


def failed(found: Readiness | None) -> tuple[str, str, str]:
    assert isinstance(found, Failed)
    assert found.verdict.failure_class is FailureClass.WORKLOAD_FATAL
    for text in (found.verdict.evidence, found.verdict.remedy):
        assert "\n" not in text
    return found.verdict.reason, found.verdict.evidence, found.verdict.remedy


@pytest.mark.parametrize("task", tasks.TASKS)
def test_vllm_is_ready_once_it_has_done_its_task(task: Task, server: Server, path: str, tmp_path: Path) -> None:
    ((route, body), *_) = ANSWERS[task]
    server.answers |= {"/v1/models": lists(NAME), route: (200, body)}
    seen: list[str] = []
    server.on_upload = lambda: seen.extend(probing.command_lines())
    assert look(VllmAdapter(), vllm(NAME, task=task, port=server.port), path, tmp_path) == Ready()
    assert server.asked == ["/health", "/v1/models", route]
    _, sent = server.sent[route]
    if task != "transcribe":
        assert json.loads(sent)["model"] == NAME
    assert not any(probing.KEY in line for line in seen)
    assert any(f":{server.port}{route}" in line for line in seen)


def test_a_sound_is_uploaded_as_a_form(server: Server, path: str, tmp_path: Path) -> None:
    server.answers |= {"/v1/models": lists(NAME), "/v1/audio/transcriptions": (200, {"text": "hm"})}
    look(VllmAdapter(), vllm(NAME, task="transcribe", port=server.port), path, tmp_path)
    content_type, sent = server.sent["/v1/audio/transcriptions"]
    form = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + sent, policy=email.policy.HTTP)
    assert isinstance(form, EmailMessage)
    parts = {str(part.get_param("name", header="Content-Disposition")): part for part in form.iter_parts()}
    assert parts["model"].get_payload(decode=True) == NAME.encode()
    assert parts["file"].get_filename() == "sound.wav"
    uploaded = parts["file"].get_payload(decode=True)
    assert isinstance(uploaded, bytes)
    with wave.open(io.BytesIO(uploaded)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getnframes()) == (1, 16_000, 1600)


@pytest.mark.parametrize(("task", "route", "body"), WAYS, ids=[f"{task} {route}" for task, route, _ in WAYS])
def test_any_server_is_ready_in_its_own_way(
    task: Task, route: str, body: object, server: Server, tmp_path: Path
) -> None:
    server.answers |= {"/v1/models": lists(NAME), route: (200, body)}
    workload = openai_server("serve", model=NAME, task=task, port=server.port)
    assert look(OpenAiServerAdapter(), workload, os.environ["PATH"], tmp_path) == Ready()
    assert server.asked == ["/v1/models", *(way for way, _ in ANSWERS[task][: ANSWERS[task].index((route, body)) + 1])]


@pytest.mark.parametrize("adapter", [VllmAdapter(), OpenAiServerAdapter(), LlamaCppAdapter(), SglangAdapter()])
@pytest.mark.parametrize("refusal", [(400, "no completions of this model"), (404, "Not Found"), (501, "not supported")])
def test_a_model_that_takes_only_chats_becomes_ready(
    adapter: HttpServer, refusal: tuple[int, str], server: Server, tmp_path: Path
) -> None:
    server.answers |= {"/v1/models": lists("chatty"), "/v1/chat/completions": (200, CHAT), "/v1/completions": refusal}
    server.answers |= {"/health_generate": (200, {})}
    workload = Workload(adapter=adapter.name, model="chatty", command="serve", port=server.port, gpus=0)
    assert look(adapter, workload, os.environ["PATH"], tmp_path) == Ready()
    assert json.loads(server.sent["/v1/chat/completions"][1])["max_tokens"] == 1


@pytest.mark.parametrize("fits", tasks.TASKS)
@pytest.mark.parametrize("asked", tasks.TASKS)
def test_a_task_that_the_model_does_not_do_is_told_with_the_one_that_it_does(asked: Task, fits: Task) -> None:
    if asked == fits:
        return
    refused = {way.name: Answer(404, '{"detail":"Not Found"}') for each in tasks.TASKS for way in tasks.ways(each)}
    done = {tasks.ways(fits)[0].name: Answer(200, json.dumps(ANSWERS[fits][0][1]))}
    answers = {"models": Answer(200, '{"data": [{"id": "m"}]}'), **refused, **done}
    reason, evidence, remedy = failed(VllmAdapter().served(vllm("m", task=asked), answers))
    assert reason == ("model_completes_no_text" if asked == "generate" else "model_not_for_task")
    assert f"{ANSWERS[asked][0][0]} answered 404" in evidence
    assert remedy == f"the model does not {asked}, but it does {fits}: give task={fits!r}"


def test_the_other_tasks_are_asked_for_only_where_this_one_is_refused(
    server: Server, path: str, tmp_path: Path
) -> None:
    why = {"error": {"message": "The model does not support Embeddings API", "code": 400}}
    server.answers |= {"/v1/models": lists("m"), "/v1/embeddings": (400, why), "/classify": (200, CLASS)}
    found = look(VllmAdapter(), vllm("m", task="embed", port=server.port), path, tmp_path)
    reason, evidence, remedy = failed(found)
    assert (reason, "task='classify'" in remedy) == ("model_not_for_task", True)
    assert "The model does not support Embeddings API" in evidence
    assert "/v1/audio/transcriptions" not in server.asked, "it is asked for no more once the fitting task is known"


def test_a_model_that_does_no_task(server: Server, tmp_path: Path) -> None:
    server.answers |= {"/v1/models": lists("m")}
    found = look(VllmAdapter(), vllm("m", task="score", port=server.port), os.environ["PATH"], tmp_path)
    reason, _, remedy = failed(found)
    assert reason == "model_not_for_task"
    assert "nor generate, embed, classify, transcribe: give another model" in remedy


def test_an_adapter_without_tasks_names_the_builder_that_has_them() -> None:
    refused = {name: Answer(404, "") for name in ("completion", "chat")}
    answers = {
        "models": Answer(200, '{"data": [{"id": "m"}]}'),
        **refused,
        "embedding": Answer(200, json.dumps(VECTOR)),
    }
    _, _, remedy = failed(openai_api.served("m", answers))
    assert remedy.endswith("use openai_server(…, task='embed')")


@pytest.mark.parametrize("figures", [[0.5, math.nan], [None], [math.inf], ["0.5"], [10**400]])
def test_numbers_that_are_not_finite_are_no_embedding(figures: list[object]) -> None:
    answers = {
        "models": Answer(200, '{"data": [{"id": "m"}]}'),
        "embedding": Answer(200, json.dumps({"data": [{"embedding": figures}]})),
    }
    found = VllmAdapter().served(vllm("m", task="embed"), answers)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.UNKNOWN, "answer_not_finite")


@pytest.mark.parametrize(
    "answer", [Answer(0, ""), Answer(500, "x"), Answer(503, ""), Answer(200, "{}"), Answer(200, '{"data": []}')]
)
def test_an_answer_that_is_none_yet_is_waited_for(answer: Answer) -> None:
    answers = {"models": Answer(200, '{"data": [{"id": "m"}]}'), "embedding": answer}
    assert VllmAdapter().served(vllm("m", task="embed"), answers) == Warming(Progress("serving"))


@pytest.mark.parametrize("choices", [[3], ["text"], [None], "text", {"0": "text"}])
def test_a_completion_of_another_form_is_waited_for(choices: object) -> None:
    answers = {
        "models": Answer(200, '{"data": [{"id": "m"}]}'),
        "completion": Answer(200, json.dumps({"choices": choices})),
    }
    assert VllmAdapter().served(vllm("m"), answers) == Warming(Progress("serving"))


@pytest.mark.parametrize("listing", [lists(), (200, {"object": "list", "data": None}), (404, {})])
def test_a_server_whose_routes_or_model_are_yet_to_come_is_waited_for(
    listing: tuple[int, object], server: Server, tmp_path: Path
) -> None:
    server.answers |= {"/v1/models": listing}
    workload = openai_server("serve", model="m", port=server.port)
    assert look(OpenAiServerAdapter(), workload, os.environ["PATH"], tmp_path) == Warming(Progress("starting"))
    server.answers |= {"/v1/models": listing, "/v1/completions": (400, "no such model: m")}
    assert failed(look(OpenAiServerAdapter(), workload, os.environ["PATH"], tmp_path))[0] == "model_completes_no_text"


@pytest.mark.parametrize("listing", [lists(), (404, {}), (405, {}), (500, "Internal Server Error")])
def test_a_server_that_lists_no_models_is_ready_by_its_answer(
    listing: tuple[int, object], server: Server, path: str, tmp_path: Path
) -> None:
    server.answers |= {"/v1/models": listing, "/v1/completions": (200, TEXT)}
    workload = openai_server("serve", model="m", port=server.port)
    assert look(OpenAiServerAdapter(), workload, path, tmp_path) == Ready()


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        (("/models/Tiny-Llama",), "/models/Tiny-Llama"),
        (("other", "org/tiny-llama"), "org/tiny-llama"),
        (("b", "a"), "b"),
    ],
)
def test_a_server_that_calls_the_model_otherwise_is_told_with_that_name(
    listed: tuple[str, ...], named: str, server: Server, tmp_path: Path
) -> None:
    server.answers |= {"/v1/models": lists(*listed), "/v1/completions": (200, TEXT)}
    workload = openai_server("serve", model="org/Tiny-Llama", port=server.port)
    reason, evidence, remedy = failed(look(OpenAiServerAdapter(), workload, os.environ["PATH"], tmp_path))
    assert (reason, evidence) == ("model_not_listed", f"/v1/models lists {', '.join(listed)}, not org/Tiny-Llama")
    assert server.asked == ["/v1/models"], "it is asked for nothing with a name that it does not know"
    assert remedy == f"give model={named!r}, as the server calls it, or have the server serve 'org/Tiny-Llama'"


def test_only_vllm_is_told_of_its_own_argument() -> None:
    answers = {"models": Answer(200, '{"data": [{"id": "other"}]}')}
    assert "--served-model-name" in failed(VllmAdapter().served(vllm("m"), answers))[2]
    assert "--served" not in failed(openai_api.served("m", answers))[2]


def test_a_failure_in_the_log_ends_a_start_also_while_the_server_answers(server: Server, tmp_path: Path) -> None:
    server.answers |= {"/v1/models": lists("m"), "/v1/completions": (500, "Internal Server Error")}
    workload = openai_server("serve", model="m", port=server.port, gpus=0)
    seen = look(OpenAiServerAdapter(), workload, os.environ["PATH"], tmp_path)
    assert seen == Warming(Progress("serving"))
    log = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB\n"
    )
    results = {"answers": result("answers", '[]\n@@ listing 200\n""\n@@ completion 500\n')}
    found = OpenAiServerAdapter().assess(workload, Observation(results, log, None, 999.0, still_s=990.0))
    assert isinstance(found, Failed)


@pytest.mark.parametrize("last", [0, 503])
@pytest.mark.parametrize("listing", [(200, '{"data": []}'), (404, "Not Found")])
def test_a_first_answer_that_takes_long_is_no_wrong_path(last: int, listing: tuple[int, str]) -> None:
    status, body = listing
    answers = (
        settled.answered(status, "/v1/models", name="listing", body=body)
        + settled.answered(404, "/v1/completions", name="completion")
        + settled.answered(last, "/v1/chat/completions", name="chat")
    )
    workload = openai_server("serve", model="m", gpus=0)
    assert settled.after(*settled.every_5_s(120, answers=answers), workload=workload) is None


def test_a_server_with_another_key_is_told_of_the_right_one() -> None:
    answers = settled.answered(401, "/v1/models", name="listing") + settled.answered(401, "/score", name="score")
    verdict = settled.after(
        *settled.every_5_s(600, answers=answers), workload=openai_server("serve", model="m", gpus=0)
    )
    assert verdict is not None
    assert verdict.reason == "key_refused"
    assert "VASTGPU_API_KEY" in verdict.remedy
    assert "ready_path" not in verdict.remedy, "the builder has none"
