"""The kinds of servers that verdicts know by name, and the other words that people use for them. Pure.

Some lines mean one thing from one server and another thing from another: ``Application startup complete`` ends vLLM's
start, while SGLang's goes on. Rules for such lines name kinds of this list (:attr:`~.rules.base.Rule.servers`), and so
do adapters (:attr:`~pytest_vastgpu.servers.http_server.HttpServer.kind`). All other rules read the output of any
server, also of one that is not listed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

ANY = "any"
"""What people may say for a server that is none of these; rules call it by an empty text."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "vllm": (),
    "llama.cpp": ("llama-server", "llama-cpp-python"),
    "sglang": ("sgl",),
    "ollama": (),
    "triton": ("tritonserver",),
    "tgi": ("text-generation-inference", "text-generation-launcher"),
    "tei": ("text-embeddings-inference", "text-embeddings-router"),
    "trtllm": ("tensorrt-llm", "trtllm-serve"),
    "transformers": ("transformers-serve",),
    "lmdeploy": ("turbomind",),
    "infinity": ("infinity-emb",),
    "aphrodite": ("aphrodite-engine",),
    "nim": ("nvidia-nim",),
    "lorax": (),
    "localai": (),
    "koboldcpp": ("kobold",),
    "fastchat": (),
    "comfyui": (),
    ANY: ("openai_server", "command"),
}
"""Each kind, with other names for it. Case and signs do not count: ``Llama_CPP`` is ``llama.cpp``."""


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


_BY_NAME = {_plain(name): kind for kind, others in KINDS.items() for name in (kind, *others)}


def kind_of(name: str) -> str:
    """The kind that a name means, :data:`ANY` for no name; a name that means none is given back as it is."""
    return _BY_NAME.get(_plain(name), name) if name else ANY
