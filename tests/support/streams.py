"""Streams of tokens, as an OpenAI-compatible server sends them, and a load that asks for them."""

from __future__ import annotations

import json
from typing import Any

from pytest_vastgpu import Load
from pytest_vastgpu import completions

STOP = 'data: {"choices": [{"text": "", "finish_reason": "length"}]}\n\n'
DONE = "data: [DONE]\n\n"


def usage(tokens: int) -> str:
    return f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': tokens}})}\n\n"


def text(said: str, key: str = "text") -> str:
    choice = {"text": said} if key == "text" else {"delta": {key: said}}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


STREAM = (text("A"), text(" ship"), STOP, usage(3), DONE)


def stream(**pace: Any) -> Load:
    return completions("Ask {n}", model="m", **{"warmup_s": 0, **pace})
