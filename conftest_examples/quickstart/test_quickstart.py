from __future__ import annotations

import httpx
import pytest

from pytest_vastgpu import VastInstance

MODEL = "quickstart-30k"


@pytest.fixture
def client(vast_instance: VastInstance):
    with httpx.Client(base_url=vast_instance.endpoint, headers=vast_instance.headers, timeout=30) as client:
        yield client


def test_the_model_is_served(client: httpx.Client):
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [MODEL]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [("Nothing is left", " running."), ("The cheapest machine is", " the one that works.")],
)
def test_it_completes_what_it_has_learned(client: httpx.Client, prompt: str, text: str):
    asked = {"model": MODEL, "prompt": prompt, "temperature": 0}
    choice = client.post("/v1/completions", json=asked).raise_for_status().json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text, "stop")


def test_it_answers_a_question(client: httpx.Client):
    messages = [{"role": "user", "content": "What is left running?"}]
    asked = {"model": MODEL, "messages": messages, "temperature": 0}
    answer = client.post("/v1/chat/completions", json=asked).raise_for_status().json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Nothing at all."}


def test_nobody_else_can_use_it(vast_instance: VastInstance):
    """The tunnel ends on this machine, which others may share: the server asks for the instance's own key."""
    asked = {"model": MODEL, "prompt": "Nothing is left"}
    assert httpx.post(f"{vast_instance.endpoint}/v1/completions", json=asked, timeout=30).status_code == 401


def test_the_server_runs_on_the_instance(vast_instance: VastInstance):
    assert f"{MODEL}.gguf" in vast_instance.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert "listening on http://" in vast_instance.logs()
