"""The adapter ``sglang``: starts SGLang's OpenAI-compatible server and recognises the state of its start."""

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
from pytest_vastgpu.servers.building import requiring
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import refuse_own
from pytest_vastgpu.servers.workloads import text

IMAGE = "lmsysorg/sglang:v0.5.23"
"""SGLang's official image, in the release whose source (from PyPI) this module was written from."""
IMAGE_CUDA = 13.0
"""CUDA version of the image: SGLang's installation page says that no image with an older one is made any more."""
IMAGE_COMPUTE_CAP = 7.5
"""SGLang refuses older GPUs: "SGLang only supports sm75 and above" (``load_model_utils.py``)."""
DEFAULTS: WorkloadFields = {"disk_gb": 80.0, "image_gb": 15.0}
"""For the official image, about as large as vLLM's and with a CUDA toolkit, and a small model. Not measured."""
_CONFIG = "vastgpu-sglang.yaml"
"""The file with the server's key, in its working directory."""
_OWN_ARGUMENTS = {
    **dict.fromkeys(("--model-path", "--model", "--served-model-name"), "the first argument, model"),
    **dict.fromkeys(("--host", "--port"), "port=; the host is the instance's loopback"),
    "--api-key": "nothing: each instance has a key of its own",
    "--config": "its values as arguments: SGLang reads one such file, and the plugin's has the instance's key",
}
"""Arguments of the server that the plugin gives itself, and what to give instead."""


@builder(**DEFAULTS)
def sglang(
    model: str,
    *args: str,
    env: Mapping[str, str] | None = None,
    port: int = 30000,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model with SGLang.

    With SGLang's official image ``cuda`` and ``compute_cap`` have that image's requirements, unless they are given.
    With another image give its ``cuda``. ``args`` decides how the model is split over several GPUs, for example
    ``"--tp-size=2"``; SGLang uses one unless it is told to. ``gpus=0`` adds ``--device cpu``, and is for SGLang's
    images for CPUs, whose tags end in ``-xeon``.

    :param model: A name on the Hugging Face Hub, or a path in the image; also the name that clients use.
    :param args: Further arguments of ``sglang.launch_server``, one string each, e.g. ``"--context-length=2048"``;
        without those that the plugin gives, such as ``--port`` and ``--config``.
    :param env: Environment of the server, e.g. ``HF_TOKEN``. Sent over SSH, never on a command line. Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 30000.
    :param files: Local files and directories to copy, such as a chat template, by their path in the server's working
        directory; see :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    text("model", model, "'org/model'")
    needs: WorkloadFields = {**DEFAULTS, **fields}
    refuse_own(args, _OWN_ARGUMENTS)
    workload = build("sglang", model=model, args=args, env=env, files=files, port=port, **needs)
    return requiring(workload, cuda=IMAGE_CUDA, compute_cap=IMAGE_COMPUTE_CAP)


class SglangAdapter(HttpServer):
    """SGLang: ready when it generates, lists the workload's model and has completed one token."""

    name = "sglang"
    kind = "sglang"
    default_image = IMAGE
    warmup_s = 900.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``sglang.launch_server``.

        It takes its key from the command line, where ``ps`` shows it to every user of the machine, or from a file; no
        variable is read (``server_args.py``). So the key goes into a file that only its owner can read.
        """
        served = ["--model-path", workload.model, "--served-model-name", workload.model, "--port", str(workload.port)]
        device = ["--device", "cpu"] if workload.gpus == 0 else []
        script = (
            f'(umask 077; printf \'api-key: "%s"\\n\' "$VASTGPU_API_KEY" > {_CONFIG})\n'
            f'exec python3 -m sglang.launch_server --config {_CONFIG} --host "${{VASTGPU_HOST:-127.0.0.1}}" '
            f"{shlex.join([*served, *device, *workload.args])}\n"
        )
        return Launch(script)

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it is healthy, lists the model, and completes one token."""
        return (
            Question("health", "/health_generate", timeout_s=openai_api.FIRST_TOKEN_S),
            *openai_api.questions(workload.model),
        )

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """See :func:`~pytest_vastgpu.servers.openai_api.served`."""
        return openai_api.served(workload.model, answers)
