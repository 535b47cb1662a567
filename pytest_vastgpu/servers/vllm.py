"""The adapter ``vllm``: starts vLLM's OpenAI-compatible server and recognises the state of its start."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.diagnosis.verdicts import ends_start
from pytest_vastgpu.diagnosis.verdicts import judge_end
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.files import local_files
from pytest_vastgpu.servers.system_probes import SURROUNDINGS
from pytest_vastgpu.servers.system_probes import gpu_trouble
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import checked
from pytest_vastgpu.servers.workloads import mapping
from pytest_vastgpu.servers.workloads import require_known
from pytest_vastgpu.servers.workloads import text

IMAGE = "vllm/vllm-openai:v0.32.0"
"""vLLM's official image, in the release that this project's own tests run (from PyPI, on CPU)."""
IMAGE_CUDA = 13.0
"""CUDA version that the image is built with, according to vLLM's Dockerfile: the driver must support it."""
IMAGE_COMPUTE_CAP = 7.5
"""Oldest GPU generation that the image's kernels are built for."""
FIRST_COMPLETION_S = 30
"""Longer than other requests, because the first completion may compile kernels."""


DEFAULTS: WorkloadFields = {"disk_gb": 60.0, "image_gb": 12.0}
"""For vLLM's official image and a small model."""


@builder(**DEFAULTS)
def vllm(
    model: str,
    *args: str,
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
    :param env: Environment of the server, e.g. ``HF_TOKEN``. Sent over SSH, never on a command line. Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8000.
    :param files: Local files and directories to copy, such as a chat template, by their path in the server's working
        directory; see :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises WorkloadInvalid: one line: which field, its value, what is expected.
    """
    require_known("vllm", fields, ("model", "files", "env", "port"))
    text("model", model, "'org/model'")
    needs: WorkloadFields = {**DEFAULTS, **fields}
    pairs = tuple(sorted(mapping("env", env, "{'NAME': 'value'}").items(), key=str))
    workload = checked(
        Workload(adapter="vllm", model=model, args=args, env=pairs, files=local_files(files), port=port, **needs)
    )
    if workload.image or workload.gpus == 0:
        return workload
    return replace(workload, compute_cap=workload.compute_cap or IMAGE_COMPUTE_CAP, cuda=workload.cuda or IMAGE_CUDA)


class VllmAdapter:
    """vLLM: ready when it lists the workload's model and has completed one token."""

    name = "vllm"
    default_image = IMAGE
    warmup_s = 900.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``vllm serve``, or the module of the same server if the image has no such command."""
        model = shlex.quote(workload.model)
        served = ["--port", str(workload.port), "--served-model-name", workload.model, *workload.args]
        arguments = f'--host "${{VASTGPU_HOST:-127.0.0.1}}" {shlex.join(served)}'
        script = (
            f"if command -v vllm >/dev/null 2>&1; then exec vllm serve {model} {arguments}; fi\n"
            f"exec python3 -m vllm.entrypoints.openai.api_server --model {model} {arguments}\n"
        )
        return Launch(script, {"VLLM_API_KEY": api_key})

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        """The header with the server's key."""
        return {"Authorization": f"Bearer {api_key}"}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        """The server's answers, in one round trip, and the state of the system around it."""
        body = {"model": workload.model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        quoted = shlex.quote(json.dumps(workload.model, ensure_ascii=False))
        command = http_probe.script(
            workload.port,
            f"health=$({http_probe.request('health', '/health')}); printf '%s\\n' \"$health\"",
            'case "$health" in *"@@ health 200") ;; *) exit 0 ;; esac',
            f"models=$({http_probe.request('models', '/v1/models')}); printf '%s\\n' \"$models\"",
            f"name={quoted}",
            'case "$models" in *"$name"*"@@ models 200") ;; *) exit 0 ;; esac',
            http_probe.request("completion", "/v1/completions", timeout_s=FIRST_COMPLETION_S, body=body),
        )
        return (Probe("answers", command, FIRST_COMPLETION_S + 15.0, workload.port), *SURROUNDINGS)

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """Ready by its answers; failed by its exit, by its log once it shows nothing new, or by the loss of a GPU."""
        context = f"gpus={workload.gpus}"
        if seen.exit_code is not None:
            return Failed(judge_end(seen.log, server="vllm", context=context, exit_code=seen.exit_code))
        probe = seen.probes.get("answers")
        served = _served(workload.model, http_probe.answers(probe.stdout) if probe else {})
        if served is not None:
            return served
        judged = judge_log(seen.log, server="vllm", context=context, still_s=seen.still_s)
        if ends_start(judged.verdict):
            return Failed(judged.verdict)
        lost = gpu_trouble(workload, seen.probes.get("gpu"))
        return Failed(lost) if lost else Warming(judged.progress)


def _served(model: str, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
    """The result that the answers alone give; None if they give none."""
    if "models" not in answers:
        return None
    listed = http_probe.listed_models(answers["models"])
    if listed is not None and model not in listed:
        remedy = "ask for the model by the name it is served under: leave --served-model-name to the plugin"
        return _wrong("model_not_listed", f"/v1/models lists {', '.join(listed) or 'nothing'}, not {model}", remedy)
    completion = answers.get("completion")
    if listed is None or completion is None:
        return None
    if _completed(completion):
        return Ready()
    if completion.status in (400, 404, 405, 422, 501):
        evidence = shown(f"/v1/completions answered {completion.status}: {completion.body}")
        remedy = "a model that completes no text is better served with command(..., ready_path='/health')"
        return _wrong("model_completes_no_text", evidence, remedy)
    return Warming(Progress("serving"))


def _wrong(reason: str, evidence: str, remedy: str) -> Failed:
    return Failed(Verdict(FailureClass.WORKLOAD_FATAL, reason, evidence, remedy))


def _completed(answer: http_probe.Answer) -> bool:
    parsed = answer.json()
    choices = parsed.get("choices") if isinstance(parsed, dict) else None
    return (
        answer.status == 200
        and isinstance(choices, Sequence)
        and len(choices) > 0
        and isinstance(choices[0], dict)
        and isinstance(choices[0].get("text"), str)
    )
