"""The recipes in docs/recipes.md: each is built, and its command run by a real shell with a stand-in for the server."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import pytest_vastgpu
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import by_name
from pytest_vastgpu.servers.registry import adapters

TEXT = (Path(__file__).parent.parent.parent / "docs" / "recipes.md").read_text()
RECIPES = {
    section.split("\n", 1)[0]: block
    for section in TEXT.split("\n## ")[1:]
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
}


@dataclass(frozen=True)
class Server:
    """What a server's own documentation says."""

    program: str
    flags: frozenset[str]
    host: str
    port: str
    key: str
    """The environment variable or flag that holds the key; empty: it has none."""


SERVERS = {
    # huggingface/text-generation-inference: docs/source/reference/launcher.md
    "Text Generation Inference": Server(
        "text-generation-launcher",
        frozenset({"--model-id", "--hostname", "--port", "--api-key"}),
        "--hostname",
        "--port",
        "API_KEY",
    ),
    # nvidia.github.io/TensorRT-LLM: commands/trtllm-serve (the command has no key)
    "trtllm-serve": Server(
        "trtllm-serve", frozenset({"--host", "--port", "--served_model_name", "--backend"}), "--host", "--port", ""
    ),
    # transformers 5.19: transformers/cli/serve.py; compared with `--help` in tests/behaviour/transformers
    "transformers serve": Server("transformers", frozenset({"--host", "--port", "--device"}), "--host", "--port", ""),
    # lmdeploy 0.18.0: lmdeploy/cli/serve.py and lmdeploy/cli/utils.py
    "LMDeploy": Server(
        "lmdeploy",
        frozenset({"--model-name", "--server-name", "--server-port", "--api-keys"}),
        "--server-name",
        "--server-port",
        "--api-keys",
    ),
    # huggingface/text-embeddings-inference: docs/source/en/cli_arguments.md
    "Text Embeddings Inference": Server(
        "text-embeddings-router", frozenset({"--model-id", "--hostname", "--port"}), "--hostname", "--port", "API_KEY"
    ),
    # infinity_emb 0.0.78: infinity_emb/cli.py and infinity_emb/env.py
    "Infinity": Server(
        "infinity_emb",
        frozenset({"--model-id", "--served-model-name", "--url-prefix", "--host", "--port", "--api-key"}),
        "--host",
        "--port",
        "INFINITY_API_KEY",
    ),
    # vLLM 0.32: vllm/entrypoints/launchers/cli_args.py and vllm/engine/arg_utils.py
    "vLLM in another image": Server(
        "vllm",
        frozenset({"--host", "--port", "--served-model-name", "--max-model-len", "--runner"}),
        "--host",
        "--port",
        "VLLM_API_KEY",
    ),
}


def build(name: str) -> Workload:
    names = {each: getattr(pytest_vastgpu, each) for each in ("openai_server", "vllm")}
    exec(RECIPES[name], names)  # noqa: S102 - it is our own documentation
    workload = names["workload"]
    assert isinstance(workload, Workload)
    return workload


def called(workload: Workload, program: str, home: Path) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment with which a workload's start calls its program."""
    folder = home / "bin"
    folder.mkdir()
    note = "import os, sys; print(*sys.argv[1:], *(f'{n}={v}' for n, v in os.environ.items()), sep='\\0', end='')"
    (folder / program).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(note)} "$@"\n')
    (folder / program).chmod(0o755)
    launch = by_name(adapters())[workload.adapter].launch(workload, "the-key")
    env = {"PATH": f"{folder}{os.pathsep}{os.defpath}", "HOME": str(home), "VASTGPU_HOST": "127.0.0.9"}
    env |= {"VASTGPU_API_KEY": "the-key", **launch.env}
    done = subprocess.run(["/bin/sh", "-c", launch.script], env=env, check=True, timeout=30, capture_output=True)
    words = done.stdout.decode().split("\0")
    first = next(number for number, word in enumerate(words) if re.match(r"[A-Z_]+=", word))
    return words[:first], dict(word.split("=", 1) for word in words[first:])


def test_each_recipe_has_its_row_and_its_server() -> None:
    rows = re.findall(r"^\| \[(.*?)\]\(#(.*?)\) \|", TEXT, re.MULTILINE)
    assert [name for name, _ in rows] == list(RECIPES) == list(SERVERS)
    assert all(anchor == name.lower().replace(" ", "-") for name, anchor in rows)


@pytest.mark.parametrize("name", SERVERS)
def test_a_recipe_starts_its_server_with_flags_that_it_documents(name: str, tmp_path: Path) -> None:
    server, workload = SERVERS[name], build(name)
    arguments, env = called(workload, server.program, tmp_path)
    flags = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    assert set(flags) <= server.flags
    given = dict(itertools.pairwise(arguments))
    assert (given[server.host], given[server.port]) == ("127.0.0.9", str(workload.port))
    assert workload.model in arguments
    assert workload.image
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| [{name}]("))
    assert row.split(" | ")[1].startswith(f"`{server.key}`" if server.key else "it has none")
    if server.key.startswith("--"):
        assert given[server.key] == "the-key"
    else:
        assert not server.key or env[server.key] == "the-key"
        assert "the-key" not in arguments
