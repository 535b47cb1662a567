"""Other programs that make the load instead of our driver: their command, and what their results say. Pure.

Each asks what the load says, prompts with numbers and all; our own load has warmed the server. Their results have the
times of each request, so that every number has an interval here, too.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring.load import Kind
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.on_instance.answers import MOST_TOKENS

NOT_FOUND = 127
"""Exit code of the shell."""
KEY = "OPENAI_API_KEY"
"""The environment variable with the server's key, which no process list shows."""
PROMPTS = "prompts.jsonl"
CONFIG = "config.json"
RESULTS = "results"
AS_SERVER = f"""\
key=${KEY}
[ ! -r ~/.vastgpu/env.sh ] || . ~/.vastgpu/env.sh
export {KEY}="$key"
"""
"""Goes before the command: it has the server's environment, such as ``PATH`` to a vLLM of its own, or a hub's token."""
LONGER = 3
"""One that ends after so many requests may take so many times as long."""
OUTPUT_CHARS = 400
"""Of what it has printed last."""
START_S = 240.0
"""For its start: it loads much."""


@dataclass(frozen=True)
class Program:
    """How one of them is run, in a directory of its own."""

    command: str
    results: str
    """Pattern of the files that it writes."""
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def program(load: Load, port: int, key: str, seconds: float, *, each_s: float, first_number: int) -> Program:
    """How ``load.driver`` is run.

    :param key: The server's; empty: it requires none.
    :param each_s: About how long a request takes: how many there will be in these seconds follows from it.
    :raises ConfigurationError: for a load that it cannot make.
    """
    prompt = _prompt(load)
    count = max(load.concurrency, round(seconds * (load.rate or load.concurrency / each_s)), 3)
    texts = [prompt.replace("{n}", str(first_number + number)) for number in range(2 * count)]  # it may be quicker now
    command, config, column = _COMMANDS[load.driver](load, f"http://127.0.0.1:{port}", key, seconds, count)
    files = {PROMPTS: "".join(json.dumps({column: text}) + "\n" for text in texts)}
    if config:
        files[CONFIG] = json.dumps(config)
    return Program(f"{AS_SERVER}{command}", f"{RESULTS}/{_RESULTS[load.driver]}", files, {KEY: key})


def seen(load: Load, found: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """What one of them has seen, as our driver tells it; and the seconds that count: until it sent its last request.

    :param found: What :func:`pytest_vastgpu.measuring.on_instance.driver.program` returns.
    :raises MeasurementFailed: if it did not run, or its results cannot be read.
    """
    name, output = load.driver, sanitize.line(" ".join(found["said"].split())[-OUTPUT_CHARS:], OUTPUT_CHARS)
    if found["exit_code"] == NOT_FOUND:
        raise MeasurementFailed(
            f"{name} is not on the instance: install it with the workload's setup, such as "
            f"setup='{_INSTALL[name]}', or leave driver= out; the shell said: {output}"
        )
    if found["killed"]:
        raise MeasurementFailed(f"{name} did not end in time; it said: {output}")
    if found["exit_code"]:
        raise MeasurementFailed(f"{name} failed with exit code {found['exit_code']}; it said: {output}")
    try:
        requests = [each for text in found["results"] for each in _READERS[name](text)]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise MeasurementFailed(
            f"the results of {name} are of another form: {error!r}; is it another version?"
        ) from error
    if not requests:
        raise MeasurementFailed(f"{name} tells of no request; it said: {output}")
    begins = min(each["start"] for each in requests)
    for each in requests:
        for at in ("start", "first", "last", "end"):
            if each[at] is not None:
                each[at] -= begins
    after = begins - found[_CLOCKS[name]]  # the driver's own times are since it has started the program
    moved = {"gpu_at": [at - after for at in found["gpu_at"]], "gpu": found["gpu"]}
    seconds = max(each["start"] for each in requests)
    return seconds, {"seen": requests, "details": {each["error"]: each["error"] for each in requests}, **moved}


def _prompt(load: Load) -> str:
    prompt = load.body.get("prompt")
    if load.kind is Kind.CHAT:
        messages = load.body["messages"]
        prompt = messages[0].get("content") if isinstance(messages, list) and len(messages) == 1 else None
    if not isinstance(prompt, str) or not load.streams:
        raise ConfigurationError(
            f"load {load.kind.value}: driver={load.driver!r} asks one text at a time, and has it streamed; leave it out"
        )
    return prompt


def _record(start: float, end: float, tokens: int, error: str, first: float | None, **more: Any) -> dict[str, Any]:
    """One request, as our driver tells of it.

    :param more: ``last``, ``gaps`` and ``pieces``; where they are not given, they follow from ``gaps``.
    """
    gaps = more.get("gaps", [])
    last = None if first is None else first + sum(gaps)
    known = {"last": last, "gaps": gaps, "pieces": 0 if first is None else 1 + len(gaps), **more}
    if error:
        known, first = {"last": None, "gaps": [], "pieces": 0}, None
    counted = {"tokens": tokens, "counted": "usage"}
    if not 0 <= tokens <= MOST_TOKENS:  # the server has told so
        counted = {"tokens": known["pieces"], "counted": "pieces"}
    return {"start": start, "first": first, "end": end, **counted, "error": error, **known}


def _vllm(load: Load, url: str, key: str, seconds: float, count: int) -> tuple[str, dict[str, Any], str]:
    """It ends after so many requests; no tokenizer is needed, since the server counts."""
    body = {name: value for name, value in load.body.items() if name not in _OWN}
    if load.kind is Kind.CHAT:
        body["max_completion_tokens"] = body["max_tokens"]  # which it would set to 1
    pace = {"--request-rate": load.rate} if load.rate else {"--max-concurrency": load.concurrency}
    options = {
        "--backend": "openai-chat" if load.kind is Kind.CHAT else "openai",
        "--base-url": url,
        "--endpoint": load.path,
        "--model": load.body["model"],
        "--dataset-name": "custom",
        "--dataset-path": PROMPTS,
        "--num-prompts": count,
        "--seed": load.seed,
        **pace,
        "--extra-body": json.dumps(body),
        "--result-dir": RESULTS,
        "--result-filename": _RESULTS[load.driver],
    }
    flags = "--skip-tokenizer-init --skip-chat-template --disable-shuffle --disable-tqdm --save-result --save-detailed"
    written = " ".join(f"{name} {shlex.quote(str(value))}" for name, value in options.items())
    return f"mkdir {RESULTS}; exec vllm bench serve {flags} {written}", {}, "prompt"


def _guidellm(load: Load, url: str, key: str, seconds: float, count: int) -> tuple[str, dict[str, Any], str]:
    body = {name: value for name, value in load.body.items() if name not in (*_OWN, "max_tokens")}
    profile = (
        {"kind": "poisson", "rate": load.rate} if load.rate else {"kind": "concurrent", "streams": load.concurrency}
    )
    config = {
        "spec": {
            "backend": {
                "kind": "openai_http",
                "target": url,
                "model": load.body["model"],
                "request_format": load.path,
                "timeout": load.timeout_s,
                "max_tokens": load.body["max_tokens"],
                "extras": {"body": body},
                **({"api_key": key} if key else {}),  # it knows no variable for it; the directory is nobody else's
            },
            "data": [{"kind": "json_file", "path": PROMPTS}],
            "profile": profile,
            "constraints": [{"kind": "max_duration", "seconds": seconds}],
            "seed": {"kind": "static", "value": load.seed},
            "outputs": [{"kind": "json", "path": f"{RESULTS}/{_RESULTS[load.driver]}"}],
        }
    }
    return f"mkdir {RESULTS}; exec guidellm run --disable-console --config {CONFIG}", config, "prompt"


def _aiperf(load: Load, url: str, key: str, seconds: float, count: int) -> tuple[str, dict[str, Any], str]:
    pace = (
        {"type": "poisson", "rate": load.rate}
        if load.rate
        else {"type": "concurrency", "concurrency": load.concurrency}
    )
    config = {
        "schemaVersion": "2.0",
        "randomSeed": load.seed,
        "benchmark": {
            "model": load.body["model"],
            "endpoint": {
                "url": url,
                "type": "chat" if load.kind is Kind.CHAT else "completions",
                "streaming": True,
                **({"apiKey": f"${{{KEY}}}"} if key else {}),
                "timeout": load.timeout_s,
                "useServerTokenCount": True,
                "extra": {name: value for name, value in load.body.items() if name not in _OWN},
            },
            "tokenizer": {"name": "builtin"},
            "dataset": {"type": "file", "format": "single_turn", "path": PROMPTS},
            "phases": [{"name": "profiling", **pace, "duration": seconds, "gracePeriod": load.timeout_s}],
            "artifacts": {"dir": RESULTS},
        },
    }
    return f"exec aiperf profile --ui none --config {CONFIG}", config, "text"


def _of_vllm(text: str) -> Iterator[dict[str, Any]]:
    results = json.loads(text)
    columns = ("start_times", "ttfts", "itls", "latencies", "output_lens", "errors")
    for start, ttft, gaps, took, tokens, error in zip(*(results[name] for name in columns), strict=True):
        reason = error.strip().splitlines()[-1] if error else ""
        yield _record(start, start + took, tokens, reason, start + ttft, gaps=gaps)


def _of_guidellm(text: str) -> Iterator[dict[str, Any]]:
    """It tells when the first and the last token came, and not when those between did."""
    requests = [each for benchmark in json.loads(text)["benchmarks"] for each in _answered(benchmark["requests"])]
    for each in requests:
        at, error = each["info"]["timings"], each["info"]["error"] or ""
        first, last, pieces = at["first_token_iteration"], at["last_token_iteration"], at["token_iterations"]
        start, end = at["request_start"] or at["resolve_start"], at["request_end"] or at["resolve_end"]
        yield _record(start, end, each["output_tokens"] or 0, error, first, last=last, gaps=[], pieces=pieces)


def _answered(requests: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Without those that it cut off at the end."""
    yield from requests["successful"] or ()
    yield from requests["errored"] or ()


def _of_aiperf(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        each = json.loads(line)
        at, error = each["metadata"], each.get("error")
        metrics = {name: metric["value"] for name, metric in each["metrics"].items()}
        start, end = at["request_start_ns"] / 1e9, at["request_end_ns"] / 1e9
        if error:
            yield _record(start, end, 0, f"{error['code']} {error['type']}: {error['message']}", None)
        elif not at["was_cancelled"]:
            first, end = start + metrics["time_to_first_token"] / 1e3, start + metrics["request_latency"] / 1e3
            gaps = [gap / 1e3 for gap in metrics["inter_chunk_latency"]]
            yield _record(start, end, metrics["output_sequence_length"], "", first, gaps=gaps)


_OWN = frozenset({"model", "prompt", "messages", "stream", "stream_options"})
"""Fields of the request that each of them sets by itself."""
_COMMANDS: Mapping[str, Callable[[Load, str, str, float, int], tuple[str, dict[str, Any], str]]] = {
    "vllm bench serve": _vllm,
    "guidellm": _guidellm,
    "aiperf": _aiperf,
}
_READERS: Mapping[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    "vllm bench serve": _of_vllm,
    "guidellm": _of_guidellm,
    "aiperf": _of_aiperf,
}
_RESULTS = {"vllm bench serve": "vllm.json", "guidellm": "guidellm.json", "aiperf": "profile_export.jsonl"}
_CLOCKS = {"vllm bench serve": "monotonic", "guidellm": "epoch", "aiperf": "epoch"}
_INSTALL = {
    "vllm bench serve": "pip install vllm[bench]",
    "guidellm": "pip install guidellm",
    "aiperf": "pip install aiperf",
}
