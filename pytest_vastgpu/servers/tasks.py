"""What a model is for: the request that shows that a server does it, and what a right answer holds. Pure.

Servers do the same task at different paths. Paths and fields are those of vLLM 0.32 (``vllm/entrypoints``), SGLang
(``entrypoints/http_server.py``), Text Embeddings Inference (``router/src/http/server.rs``) and Infinity.
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Literal
from typing import get_args

from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.building import detail
from pytest_vastgpu.servers.http_probe import Answer
from pytest_vastgpu.servers.http_probe import Form
from pytest_vastgpu.servers.questions import Question

Task = Literal["generate", "embed", "score", "classify", "transcribe"]
TASKS: tuple[Task, ...] = get_args(Task)
DEFAULT: Task = "generate"
FIRST_ANSWER_S = 30
"""Longer than other requests, because the first answer may compile kernels or load the model."""
REFUSALS = frozenset({400, 404, 405, 422, 501})
"""What servers answer that do not do a task: 400 and 501 (vLLM) with a reason, the others for want of the route."""


@dataclass(frozen=True)
class Way:
    """One way to ask for a task; of several the first that the server knows counts."""

    name: str
    path: str
    body: Mapping[str, object]
    """What is sent beside the model's name."""
    result: Callable[[object], bool | None]
    """Whether the parsed answer holds what was asked for; None: it does, in numbers that are not finite."""
    upload: bytes = field(default=b"", repr=False)
    """A sound, sent with the rest as a form."""

    def question(self, model: str, otherwise: Question | None) -> Question:
        """What is asked."""
        asked = {"model": model, **self.body}
        form = Form({"model": model}, "sound.wav", "audio/wav", self.upload) if self.upload else None
        return Question(self.name, self.path, form or asked, FIRST_ANSWER_S, otherwise=otherwise)

    def done(self, answer: Answer) -> bool | None:
        """Whether the answer holds what was asked for; None: it does, in numbers that are not finite."""
        return self.result(answer.json()) if answer.status == 200 else False


def ways(task: Task) -> tuple[Way, ...]:
    """How a task can be asked for, the most usual way first."""
    return _WAYS[task]


def question(model: str, task: Task) -> Question:
    """Asks for a task in each way, and for the other tasks if the server refuses all, to tell which one fits."""
    first, *others = (*_WAYS[task], *(way for other in TASKS if other != task for way in _WAYS[other]))
    chain: Question | None = None
    for way in reversed(others):
        chain = way.question(model, chain)
    return first.question(model, chain)


def known(function: str, task: object) -> Task:
    """The task, if it is one.

    :raises WorkloadInvalid: one line, with all that there are, the nearest first.
    """
    for each in TASKS:
        if task == each:
            return each
    names = ", ".join(map(repr, nearest_first(task if isinstance(task, str) else "", TASKS)))
    raise WorkloadInvalid(f"task={task!r} of the workload is none of {function}(); there are: {names}")


def of(workload: Workload) -> Task:
    """The workload's task; the usual one if it names none."""
    named = detail(workload, "task")
    return known(workload.adapter, named) if named else DEFAULT


def silence() -> bytes:
    """A WAV file of a tenth of a second: 16,000 samples a second of 8 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(16_000)
        # 126 of 255, two below the middle: a letter, so that the shell text that sends it stays short
        sound.writeframes(b"~" * 1600)
    return file.getvalue()


def _choice(name: str) -> Callable[[object], bool]:
    def result(parsed: object) -> bool:
        choices = parsed.get("choices") if isinstance(parsed, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        return isinstance(first, dict) and name in first

    return result


def _figures(*names: str) -> Callable[[object], bool | None]:
    def result(parsed: object) -> bool | None:
        figures = list(_below(parsed, names))
        if not all(map(_is_finite, figures)):
            return None
        return bool(figures)

    return result


def _is_finite(figure: object) -> bool:
    try:
        return isinstance(figure, (int, float)) and math.isfinite(figure)
    except OverflowError:  # a whole number that no float holds
        return False


def _below(parsed: object, names: tuple[str, ...], inside: bool = False) -> Iterator[object]:
    """All plain values below the fields of these names."""
    if isinstance(parsed, dict):
        for name, value in parsed.items():
            yield from _below(value, names, inside or name in names)
    elif isinstance(parsed, list):
        for value in parsed:
            yield from _below(value, names, inside)
    elif inside:
        yield parsed


def _text(parsed: object) -> bool:
    return isinstance(parsed, dict) and isinstance(parsed.get("text"), str)


_ONE_TOKEN = {"max_tokens": 1, "temperature": 0}
_PAIR = {"query": "Hello", "documents": ["Hello"]}
_WAYS: Mapping[Task, tuple[Way, ...]] = {
    "generate": (
        Way("completion", "/v1/completions", {**_ONE_TOKEN, "prompt": "Hello"}, _choice("text")),
        Way(
            "chat",
            "/v1/chat/completions",
            {**_ONE_TOKEN, "messages": [{"role": "user", "content": "Hello"}]},
            _choice("message"),
        ),
    ),
    "embed": (
        Way("embedding", "/v1/embeddings", {"input": "Hello"}, _figures("embedding")),
        Way("embedding_bare", "/embeddings", {"input": "Hello"}, _figures("embedding")),  # Infinity
    ),
    "score": (
        Way("score", "/score", {"text_1": "Hello", "text_2": "Hello"}, _figures("score")),  # vLLM
        Way("rerank", "/v1/rerank", _PAIR, _figures("score", "relevance_score")),  # SGLang
        Way("rerank_bare", "/rerank", {**_PAIR, "texts": ["Hello"]}, _figures("score", "relevance_score")),
    ),
    "classify": (
        Way("class", "/classify", {"input": ["Hello"]}, _figures("probs", "score")),  # vLLM, Infinity
        Way("class_v1", "/v1/classify", {"input": ["Hello"]}, _figures("probs", "score")),  # SGLang
        Way("class_predicted", "/predict", {"inputs": "Hello"}, _figures("score")),  # Text Embeddings Inference
    ),
    "transcribe": (Way("transcription", "/v1/audio/transcriptions", {}, _text, silence()),),
}
