"""The adapter ``vllm``: starts vLLM's OpenAI-compatible server and recognises the state of its start."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers import openai_api
from pytest_vastgpu.servers import tasks
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.building import requiring
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.tasks import Task
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import refuse_own
from pytest_vastgpu.servers.workloads import text

IMAGE = "vllm/vllm-openai:v0.32.0"
"""vLLM's official image, in the release that this project's own tests run (from PyPI, on CPU)."""
IMAGE_CUDA = 13.0
"""CUDA version that the image is built with, according to vLLM's Dockerfile: the driver must support it."""
IMAGE_COMPUTE_CAP = 7.5
"""Oldest GPU generation that the image's kernels are built for."""
_RUNNERS = dict.fromkeys(("embed", "score", "classify"), ("--runner", "pooling"))
"""Arguments by task: a model that generates text embeds it only with them. vLLM finds the rest in the model's files."""
_OWN_ARGUMENTS = {
    "--model": "the first argument, model",
    **dict.fromkeys(("--host", "--port"), "port=; the host is the instance's loopback"),
    "--api-key": "nothing: each instance has a key of its own",
}
"""Arguments of the server that the plugin gives itself, and what to give instead."""
DEFAULTS: WorkloadFields = {"disk_gb": 60.0, "image_gb": 12.0}
"""For vLLM's official image and a small model."""


@builder(**DEFAULTS)
def vllm(
    model: str,
    *args: str,
    task: Task = tasks.DEFAULT,
    env: Mapping[str, str] | None = None,
    port: int = 8000,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model with vLLM.

    With vLLM's official image ``cuda`` and ``compute_cap`` have that image's requirements, unless they are given. With
    another image give its ``cuda``. ``args`` decides how the model is split over several GPUs; ``gpus=0`` is for vLLM's
    CPU build.

    :param model: A name on the Hugging Face Hub, or a path in the image; also the name that clients use.
    :param args: Further arguments of ``vllm serve``, one string each, e.g. ``"--max-model-len=2048"``.
    :param task: What the model is for: ``generate`` text, ``embed`` it, ``score`` one text against another,
        ``classify`` it, or ``transcribe`` speech. The server is ready once it has done that. Default: ``generate``.
    :param env: Environment of the server, e.g. ``HF_TOKEN``. Sent over SSH, never on a command line. Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8000.
    :param files: Local files and directories to copy, such as a chat template, by their path in the server's working
        directory; see :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    text("model", model, "'org/model'")
    refuse_own(args, _OWN_ARGUMENTS)
    needs: WorkloadFields = {**DEFAULTS, **fields}
    details = {"task": tasks.known("vllm", task)}
    workload = build("vllm", model=model, args=args, env=env, files=files, port=port, details=details, **needs)
    return requiring(workload, cuda=IMAGE_CUDA, compute_cap=IMAGE_COMPUTE_CAP)


class VllmAdapter(HttpServer):
    """vLLM: ready when it lists the workload's model and has done its task once."""

    name = kind = "vllm"
    default_image = IMAGE
    warmup_s = 900.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``vllm serve``, or the module of the same server if the image has no such command."""
        model = shlex.quote(workload.model)
        served = ["--port", str(workload.port), "--served-model-name", workload.model]
        served += [*_RUNNERS.get(tasks.of(workload), ()), *workload.args]
        arguments = f'--host "${{VASTGPU_HOST:-127.0.0.1}}" {shlex.join(served)}'
        script = (
            f"if command -v vllm >/dev/null 2>&1; then exec vllm serve {model} {arguments}; fi\n"
            f"exec python3 -m vllm.entrypoints.openai.api_server --model {model} {arguments}\n"
        )
        return Launch(script, {"VLLM_API_KEY": api_key})

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it is healthy, lists the model, and does its task."""
        return (Question("health", "/health"), *openai_api.questions(workload.model, tasks.of(workload)))

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """See :func:`~pytest_vastgpu.servers.openai_api.served`."""
        rename = "leave --served-model-name to the plugin"
        return openai_api.served(workload.model, answers, tasks.of(workload), rename=rename, tells_tasks=True)
