from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pytest_vastgpu import VastInstance
from pytest_vastgpu import Workload


@pytest.fixture
def model(vast_workload: Workload) -> str:
    return vast_workload.model


@pytest.fixture
def client(vast_instance: VastInstance):
    with httpx.Client(base_url=vast_instance.endpoint, headers=vast_instance.headers, timeout=120) as client:
        yield client


def asked(model: str) -> dict[str, object]:
    """Exactly 16 tokens, always the likeliest one."""
    return {"model": model, "prompt": "Nothing is left", "temperature": 0, "max_tokens": 16, "ignore_eos": True}


def complete(client: httpx.Client, model: str) -> dict:
    return client.post("/v1/completions", json=asked(model)).raise_for_status().json()


def counter(client: httpx.Client, name: str) -> float:
    """A Prometheus counter, over all its labels."""
    lines = client.get("/metrics").raise_for_status().text.splitlines()
    values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))]
    assert values, f"the server has no counter {name}"
    return sum(values)


def test_the_model_is_listed(client: httpx.Client, model: str):
    assert model in [listed["id"] for listed in client.get("/v1/models").raise_for_status().json()["data"]]


def test_completion(client: httpx.Client, model: str):
    answer = complete(client, model)
    assert answer["usage"]["completion_tokens"] == 16
    assert answer["choices"][0]["finish_reason"] == "length"


def test_chat_completion(client: httpx.Client, model: str):
    messages = [{"role": "user", "content": "What is left running?"}]
    asking = {"model": model, "messages": messages, "max_tokens": 16, "ignore_eos": True}
    answer = client.post("/v1/chat/completions", json=asking).raise_for_status().json()
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 16


def test_the_likeliest_tokens_are_the_same_each_time(client: httpx.Client, model: str):
    assert complete(client, model)["choices"][0]["text"] == complete(client, model)["choices"][0]["text"]


def test_a_stream_says_what_a_single_answer_says(client: httpx.Client, model: str):
    whole = complete(client, model)["choices"][0]["text"]
    with client.stream("POST", "/v1/completions", json={**asked(model), "stream": True}) as stream:
        events = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]) == whole
    assert len(events) > 2


def test_requests_are_served_side_by_side_and_counted(client: httpx.Client, model: str):
    before = counter(client, "vllm:generation_tokens_total")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: complete(client, model), range(8)))
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [16] * 8
    assert counter(client, "vllm:generation_tokens_total") >= before + 8 * 16


def test_a_model_that_is_not_there(client: httpx.Client):
    answer = client.post("/v1/completions", json={"model": "nobody/nothing", "prompt": "Hello"})
    assert answer.status_code == 404


def test_nobody_without_the_key_is_served(vast_instance: VastInstance):
    assert httpx.get(f"{vast_instance.endpoint}/v1/models", timeout=120).status_code == 401


def test_it_runs_on_the_gpu(vast_instance: VastInstance, vast_workload: Workload):
    if vast_workload.gpus == 0:
        pytest.skip("VLLM_EXAMPLE_CPU=1: vLLM runs on the CPU here")
    used = vast_instance.run("nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits").stdout
    assert max(map(int, used.split())) > 2000, "MiB: the model alone needs more"
