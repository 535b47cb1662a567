"""Reads the progress of a server's start from its log: download, weights, compilation, KV cache, graphs, serving."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_vastgpu.model import Progress


class Stage(NamedTuple):
    """One stage; its expression may have the groups ``done``, ``total`` and ``unit``, or ``percent``."""

    name: str
    pattern: re.Pattern[str]


_BAR = r"\|\s*(?P<done>\d+)/(?P<total>\d+)\s*\["
"""The count in one of tqdm's bars."""

STAGES: tuple[Stage, ...] = (
    Stage("weights", re.compile(r"(?:Loading|Multi-thread loading)[\w ]*\b(?:shards|weights)\b.*?" + _BAR)),
    Stage("weights", re.compile(r"Convert to turbomind format:.*?" + _BAR)),
    Stage("graphs", re.compile(r"Captur(?:ing|e)\b[^:]*\b(?:graphs?|batches|num tokens)\b.*?" + _BAR)),
    Stage("downloading", re.compile(r"^Fetching \d+ files.*?" + _BAR)),
    Stage("downloading", re.compile(r"^[\w./-]+\.(?:safetensors|bin|gguf|pth?|json)\S*:\s+(?P<percent>\d+)%\|")),
    Stage("downloading", re.compile(r"^downloading: (?P<done>\d+)(?:/(?P<total>\d+))? (?P<unit>MB)$")),
    Stage("downloading", re.compile(r"Download: \[(?P<done>\d+)/(?P<total>\d+)\]")),
    Stage("downloading", re.compile(r"^pulling (?:manifest|[0-9a-f]{12}\b\S*\s+(?P<percent>\d+)%)")),
    Stage("downloading", re.compile(r"msg=\"downloading \w+ in \d+")),
    Stage(
        "downloading",
        re.compile(
            r"Downloading (?:file|model|weights)\b|Starting check and download|Files are already present on the host"
        ),
    ),
    Stage(
        "weights",
        re.compile(r"llama_model_loader: loaded meta data|loading model tensors|msg=\"loading model\""),
    ),
    Stage("weights", re.compile(r"Starting shard|loading: [\w.-]+:\d+|Loading model\b(?!.*fail)", re.I)),
    Stage("weights", re.compile(r"Model class: |model weight dtype|loaded (?:completely|partially) ")),
    Stage("engine", re.compile(r"Shard ready in |Warming up model|successfully loaded '|warming up the model")),
    Stage("engine", re.compile(r"Starting TensorRT LLM init|Model init total|Init torch distributed begin")),
    Stage("engine", re.compile(r"Import times for custom nodes|constructing context|llama_context: ")),
    Stage("serving", re.compile(r"Using prefix caching = |Invalid hostname, defaulting|To see the GUI go to")),
    Stage("weights", re.compile(r"Starting to load model|Load weight begin|Loading (?:model )?weights")),
    Stage("compiling", re.compile(r"Dynamo bytecode transform|Compiling (?:a|the) .*graph|torch\.compile t")),
    Stage("compiling", re.compile(r"torch_compile_cache|Autotuning process starts|JIT (?:compil|load)\w+ ops?", re.I)),
    Stage("kv_cache", re.compile(r"KV cache size|KV Cache is allocated|KV cache memory|# (?:GPU|CUDA) blocks")),
    Stage("kv_cache", re.compile(r"Memory pool end|for max tokens in paged KV")),
    Stage("graphs", re.compile(r"Captur(?:ing|e)\b.*\bgraph\b.*\b(?:begin|may|can)\b|Graph capturing finished")),
    Stage("serving", re.compile(r"Starting vLLM (?:API )?server|Started server process|Application startup complete")),
    Stage("engine", re.compile(r"Initializing an? (?:V\d )?LLM engine|init engine \(")),
    Stage("configuring", re.compile(r"Resolved architecture|vLLM API server version|non-default args")),
    Stage("downloading", re.compile(r"^vastgpu: ollama (?:pull|create) ")),  # our own start script for Ollama
    Stage("weights", re.compile(r"^vastgpu: ollama run ")),
)

_MOST_CHARS = 2000
"""Most characters of a line: Python does not convert numbers with more digits."""


def progress_of(text: str) -> Progress | None:
    """The stage that a line names; None if it names none.

    :param text: A line without logger prefixes.
    """
    for stage in STAGES:
        if found := stage.pattern.search(text[:_MOST_CHARS]):
            numbers = found.groupdict()
            if numbers.get("percent"):
                return Progress(stage.name, int(numbers["percent"]), 100)
            done, total = int(numbers.get("done") or 0), int(numbers.get("total") or 0)
            return Progress(stage.name, done, total, numbers.get("unit") or "")
    return None
