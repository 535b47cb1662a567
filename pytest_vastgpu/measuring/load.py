"""What a server is asked while it is measured, and how fast. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any
from typing import TypedDict
from typing import Unpack
from urllib.parse import quote

from pytest_vastgpu.errors import ConfigurationError

DRIVERS = ("vllm bench serve", "guidellm", "aiperf")
"""Programs that can make the load instead of ours, if they are on the instance."""
SLO = ("ttft", "tpot", "e2e")
LONGEST_S = 3600
"""Seconds of one measurement at most."""
MOST_AT_A_TIME = 1024
"""Requests under way in a closed loop: so many threads the driver has."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Of HTTP: a method, or the name of a header."""
_PUBLIC_NAMES = {"text": "body"}
"""What a field is called where a user gives it."""
PROMPT = "Request {n}: write a story about a ship."


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
    """What is asked, and how fast. :func:`completions`, :func:`chat`, … make it.

    :raises ConfigurationError: for a value that no load can have; one line.
    """

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
    method: str = "POST"
    """Of HTTP."""
    text: str = ""
    """The request's body, where that is no JSON; as in :attr:`body`, ``{n}`` is the request's number."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """HTTP headers beside those that the server requires."""
    most_errors: float = 0.01
    """The share of requests that may fail. Where more do, the numbers of the rest say nothing, and none is given."""
    driver: str = ""
    """The program that makes the load, ``vllm bench serve``, ``guidellm`` or ``aiperf``; empty: ours."""

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ConfigurationError(f"load {self.kind.value}: {problem}")

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream of tokens."""
        return self.kind in (Kind.COMPLETIONS, Kind.CHAT) and self.body.get("stream") is True


class Pace(TypedDict, total=False):
    """How fast, and what counts: every load takes these. See the fields of :class:`Load`.

    Without ``concurrency`` and ``rate``, one request is under way at any time.
    """

    concurrency: int
    rate: float
    warmup_s: float
    timeout_s: float
    slo: Mapping[str, float]
    seed: int
    most_errors: float
    driver: str


def completions(
    prompt: str = PROMPT,
    *,
    model: str,
    max_tokens: int = 64,
    stream: bool = True,
    **more: Any,
) -> Load:
    """OpenAI's completions, streamed.

    :param prompt: ``{n}`` in it is the number of the request.
    :param model: The model's name as the server lists it.
    :param max_tokens: Of an answer. Where the server knows ``ignore_eos``, give that as well: all are equally long.
    :param stream: False: the answer comes as a whole, and has no times of tokens.
    :param more: How fast, and what counts, as for every load: see :class:`~pytest_vastgpu.measuring.load.Pace`. All
        else are further fields of the request, such as ``temperature``.
    :raises ConfigurationError: for a value that no load can have; one line.
    """
    asked = {"prompt": prompt, "max_tokens": max_tokens}
    return _openai(Kind.COMPLETIONS, "/v1/completions", model, asked, stream, more)


def chat(
    prompt: str | Sequence[Mapping[str, object]] = PROMPT,
    *,
    model: str,
    max_tokens: int = 64,
    stream: bool = True,
    **more: Any,
) -> Load:
    """OpenAI's chat completions, streamed; the rest as for :func:`completions`.

    :param prompt: What the user says, or all messages.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    asked = {"messages": messages, "max_tokens": max_tokens}
    return _openai(Kind.CHAT, "/v1/chat/completions", model, asked, stream, more)


def kserve(model: str, inputs: Sequence[Mapping[str, object]], *, version: str = "", **pace: Unpack[Pace]) -> Load:
    """An inference by KServe's protocol, as Triton has it.

    :param inputs: The request's tensors: ``[{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}]``.
    :param version: Of the model; empty: the server chooses.
    :raises ConfigurationError: for a value that no load can have; one line.
    """
    for name, value in (("model", model), ("version", version)):
        if not _is_text(value) or (name == "model" and not value):
            raise ConfigurationError(f"load kserve: {name}={value!r:.40}; give the {name} as the server lists it")
    below = f"/versions/{quote(version, safe='')}" if version else ""
    return _load(Kind.KSERVE, f"/v2/models/{quote(model, safe='')}{below}/infer", {"inputs": list(inputs)}, pace)


def http_load(
    path: str,
    body: Mapping[str, object] | str | None = None,
    *,
    method: str = "",
    headers: Mapping[str, str] | None = None,
    **pace: Unpack[Pace],
) -> Load:
    """Any request of HTTP. It has succeeded if its status is 200 to 299.

    :param path: Such as ``/predict``; ``{n}`` in it is the number of the request.
    :param body: JSON, or a text that is sent as it is; ``{n}`` in it is the number of the request.
    :param method: Default: POST with a body, GET without.
    :param headers: Beside those that the server requires, which are sent anyway. A text is sent as JSON, too, unless a
        ``Content-Type`` says what it is.
    :raises ConfigurationError: for a value that no load can have; one line.
    """
    text = body if isinstance(body, str) else "{}" if body == {} else ""  # an empty object is a body, too
    fields = {} if body is None or isinstance(body, str) else body
    method = method or ("GET" if body is None else "POST")
    return _load(Kind.HTTP, path, fields, pace, method=method, text=text, headers=headers or {})


def shell(command: str, **pace: Unpack[Pace]) -> Load:
    """A shell command on the instance, again and again: a kernel's benchmark, a training step. It asks no server.

    It runs as root in the home directory, in the image's environment, and has succeeded if its exit code is 0.

    :raises ConfigurationError: for a value that no load can have; one line.
    """
    return _load(Kind.COMMAND, command, {}, pace)


def _openai(
    kind: Kind, path: str, model: str, asked: Mapping[str, object], stream: bool, more: Mapping[str, Any]
) -> Load:
    pace = {name: value for name, value in more.items() if name in Pace.__annotations__}
    body = {name: value for name, value in more.items() if name not in pace}
    for name in body:
        for meant in get_close_matches(name, Pace.__annotations__, 1, 0.8):
            raise ConfigurationError(
                f"load {kind.value}: {name!r} would be a field of the request; is {meant!r} meant?"
            )
    if not model:
        raise ConfigurationError(f"load {kind.value}: model is empty; give the name that the server lists")
    streamed = {"stream_options": {"include_usage": True}} if stream is True else {}
    return _load(kind, path, {"model": model, **asked, "stream": stream, **streamed, **body}, pace)


def _load(kind: Kind, path: str, body: Mapping[str, object], pace: Mapping[str, Any], **http: Any) -> Load:
    asked = {name: pace[name] for name in ("concurrency", "rate") if name in pace}
    if asked and not any(asked.values()):
        given = " and ".join(f"{name}={value!r:.40}" for name, value in asked.items())
        raise ConfigurationError(
            f"load {kind.value}: {given} asks nothing; give concurrency=1 or more, or rate= above 0, requests a second"
        )
    alone = {} if pace.get("concurrency") or not pace.get("rate") else {"concurrency": 0}
    one = {} if pace.get("concurrency") or pace.get("rate") else {"concurrency": 1}
    return Load(kind, path, body, **{**pace, **alone, **one, **http})


def _problems(load: Load) -> Iterator[str]:
    """What is wrong with a load, with what to give instead."""
    for name in ("path", "text", "method"):
        if not _is_text(value := getattr(load, name)):
            yield f"{_PUBLIC_NAMES.get(name, name)}={value!r:.80} is no text that can be sent"
            return
    if load.kind is Kind.COMMAND:
        if not load.path.strip() or "\0" in load.path:
            yield "the command is empty" if not load.path.strip() else "the command contains a null character"
    elif not re.fullmatch(r"/[!-~]*", load.path):
        yield f"path={load.path!r:.80} is no path of a URL; give one that begins with / and has no spaces"
    if not _TOKEN.fullmatch(load.method):
        yield f"method={load.method!r:.40} is no method of HTTP; give one such as 'PUT'"
    for name in ("slo", "headers", "body"):
        if not isinstance(value := getattr(load, name), Mapping):
            yield f"{name}={value!r:.40}; give a dict"
            return
    if isinstance(load.seed, bool) or not isinstance(load.seed, int):
        yield f"seed={load.seed!r:.40}; give a whole number"
    if not _whole(load.concurrency, 0, MOST_AT_A_TIME):
        yield f"concurrency={load.concurrency!r:.40}; give a whole number from 1 to {MOST_AT_A_TIME}"
    if not _number(load.rate, 0, 100_000):
        yield f"rate={load.rate!r:.40}; give requests a second, such as rate=5"
    if bool(load.concurrency) == bool(load.rate):
        yield f"concurrency={load.concurrency} and rate={load.rate:g}; give one of them: a closed or an open loop"
    for name, least, most in (("warmup_s", 0, 3600), ("timeout_s", 0.001, 3600)):
        if not _number(value := getattr(load, name), least, most):
            yield f"{name}={value!r:.40}; give seconds from {least:g} to {most}"
    if not _number(load.most_errors, 0, 1):
        yield f"most_errors={load.most_errors!r:.40}; give a share of the requests from 0 to 1"
    for metric, limit in load.slo.items():
        if metric not in SLO or not _number(limit, 1e-9, math.inf):
            yield f"slo has {metric!r}: {limit!r:.40}; give seconds for {', '.join(SLO)}"
        elif metric != "e2e" and not load.streams:
            yield f"slo has {metric!r}, which no answer of this load has, since it is no stream; give e2e"
    for name, value in load.headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            yield f"headers has {name!r:.40}, which is no name of a header"
        elif not isinstance(value, str) or not re.fullmatch(r"[\t -~\xa0-\xff]*", value):
            yield f"headers has {name!r:.40} with a value that is no line of text in Latin-1"
    if load.driver and load.driver not in DRIVERS:
        yield f"driver={load.driver!r:.40}; give one of {', '.join(map(repr, DRIVERS))}, or none for ours"
    if load.driver and load.kind not in (Kind.COMPLETIONS, Kind.CHAT):
        yield f"driver={load.driver!r} asks OpenAI-compatible servers only; leave it out"
    try:
        json.dumps(load.body, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        yield f"its body is no JSON: {error}"


def _is_text(value: object) -> bool:
    """Half of a character (a lone surrogate) cannot be sent."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and _number(value, least, most)
