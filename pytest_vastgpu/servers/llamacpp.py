"""The adapter ``llamacpp``: starts llama.cpp's own server and recognises the state of its start."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers import openai_api
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import require_known
from pytest_vastgpu.servers.workloads import text

IMAGE = "ghcr.io/ggml-org/llama.cpp:server-cuda"
"""The server's usual image."""
DEFAULTS: WorkloadFields = {"disk_gb": 60.0}


@builder(**DEFAULTS)
def llamacpp(
    model: str,
    *args: str,
    env: Mapping[str, str] | None = None,
    port: int = 8080,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model with llama.cpp.

    :param model: A repository of GGUF files on the Hugging Face Hub, ``org/model`` or ``org/model:Q4_K_M``; also the
        name that clients use.
    :param args: Further arguments of the server, one string each.
    :param env: Environment of the server. Sent over SSH, never on a command line. Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8080.
    :param files: Local files and directories to copy, by their path in the server's working directory; see
        :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    require_known("llamacpp", fields, ("model", "files", "env", "port"))
    text("model", model, "'org/model'")
    needs: WorkloadFields = {**DEFAULTS, **fields}
    return build("llamacpp", model=model, args=args, env=env, files=files, port=port, **needs)


class LlamaCppAdapter(HttpServer):
    """llama.cpp: ready when it lists the workload's model and has completed one token."""

    name = "llamacpp"
    kind = "llama.cpp"
    default_image = IMAGE
    warmup_s = 600.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``llama-server``."""
        served = ["--port", str(workload.port), "--alias", workload.model, "-hf", workload.model, *workload.args]
        script = (
            'PATH="$PATH:/app"\n'  # the official image has it there
            f'exec llama-server --host "${{VASTGPU_HOST:-127.0.0.1}}" {shlex.join(served)}\n'
        )
        return Launch(script, {"LLAMA_API_KEY": api_key})

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it is healthy, lists the model, and completes one token."""
        return (Question("health", "/health"), *openai_api.questions(workload.model))

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """See :func:`~pytest_vastgpu.servers.openai_api.served`."""
        return openai_api.served(workload.model, answers)
