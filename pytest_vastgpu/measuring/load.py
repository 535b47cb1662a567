"""What a server is asked while it is measured, and how fast. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum


class Kind(StrEnum):
    """How a request is sent, and how its answer is read."""

    COMPLETIONS = "completions"
    """OpenAI's ``/v1/completions``, as a stream of tokens."""
    CHAT = "chat"
    """OpenAI's ``/v1/chat/completions``, as a stream of tokens."""
    KSERVE = "kserve"
    """KServe's ``/v2/models/MODEL/infer``, as Triton has it."""
    HTTP = "http"
    """Any path with any body."""
    COMMAND = "command"
    """A shell command on the instance, run again and again: code on the GPU."""


@dataclass(frozen=True)
class Load:
    """What is asked, and how fast. :func:`completions`, :func:`chat`, … make it."""

    kind: Kind
    path: str = ""
    """Path of the URL, or the shell command."""
    body: Mapping[str, object] = field(default_factory=dict)
    """The request's JSON; ``{n}`` in a text is the request's number, so that no cache answers."""
    concurrency: int = 1
    """Closed loop: so many requests are under way at any time. 0: an open loop, with :attr:`rate`."""
    rate: float = 0.0
    """Open loop: requests a second, which come at random (Poisson) whether earlier ones are answered or not."""
    warmup_s: float = 2.0
    """Seconds of the same load before, which do not count."""
    timeout_s: float = 60.0
    """Seconds after which a request counts as an error."""
    slo: Mapping[str, float] = field(default_factory=dict)
    """Seconds by metric (``ttft``, ``tpot``, ``e2e``): a request that keeps them all counts for goodput."""
    seed: int = 1
    """Of the open loop's times."""


def completions(
    prompt: str = "Request {n}: write a story about a ship.",
    *,
    model: str,
    max_tokens: int = 64,
    concurrency: int = 1,
    rate: float = 0.0,
    warmup_s: float = 2.0,
    timeout_s: float = 60.0,
    slo: Mapping[str, float] | None = None,
    **body: object,
) -> Load:
    """OpenAI's completions, streamed.

    :param prompt: ``{n}`` in it is the number of the request.
    :param model: The model's name as the server lists it.
    :param body: Further fields of the request, such as ``temperature``.
    """
    asked = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "stream": True, **body}
    asked["stream_options"] = {"include_usage": True}
    return Load(Kind.COMPLETIONS, "/v1/completions", asked, concurrency, rate, warmup_s, timeout_s, slo or {})
