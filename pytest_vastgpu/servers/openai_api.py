"""The OpenAI-compatible API: what a server is asked before it counts as ready, and what its answers mean. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.model import Progress
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.http_server import wrong
from pytest_vastgpu.servers.questions import Question

FIRST_TOKEN_S = 30
"""Longer than other requests, because the first token may compile kernels."""


def questions(model: str) -> tuple[Question, ...]:
    """Whether the server lists the model, and completes one token: of a text, or of a chat where it takes only that."""
    one_token = {"model": model, "max_tokens": 1, "temperature": 0}
    chat = {**one_token, "messages": [{"role": "user", "content": "Hello"}]}
    return (
        Question("models", "/v1/models", holds=json.dumps(model, ensure_ascii=False)),
        Question(
            "completion",
            "/v1/completions",
            {**one_token, "prompt": "Hello"},
            FIRST_TOKEN_S,
            otherwise=Question("chat", "/v1/chat/completions", chat, FIRST_TOKEN_S),
        ),
    )


def served(model: str, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
    """The result that the answers to :func:`questions` give; None if they give none."""
    if "models" not in answers:
        return None
    listed = http_probe.listed_models(answers["models"])
    if listed is not None and model not in listed:
        remedy = "ask for the model by the name it is served under: leave --served-model-name to the plugin"
        return wrong("model_not_listed", f"/v1/models lists {', '.join(listed) or 'nothing'}, not {model}", remedy)
    completion, chat = answers.get("completion"), answers.get("chat")
    if listed is None or completion is None:
        return None
    if _has_choice(completion, "text") or (chat is not None and _has_choice(chat, "message")):
        return Ready()
    if chat is not None and chat.status in (400, 404, 405, 422, 501):
        evidence = shown(
            f"/v1/completions answered {completion.status}: {completion.body}; /v1/chat/completions answered "
            f"{chat.status}: {chat.body}"
        )
        remedy = "a model that completes no text is better served with command(..., ready_path='/health')"
        return wrong("model_completes_no_text", evidence, remedy)
    return Warming(Progress("serving"))


def _has_choice(answer: http_probe.Answer, field: str) -> bool:
    parsed = answer.json()
    choices = parsed.get("choices") if isinstance(parsed, dict) else None
    return answer.status == 200 and isinstance(choices, list) and bool(choices) and field in (choices[0] or ())
