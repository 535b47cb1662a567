"""The adapter ``triton``: starts NVIDIA's Triton Inference Server and recognises the state of its start."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.building import detail
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import require_known

IMAGE = "nvcr.io/nvidia/tritonserver:26.10-py3"
"""Triton's official image."""
DEFAULTS: WorkloadFields = {"disk_gb": 60.0}
REPOSITORY = "models"
"""The model repository, in the server's working directory."""


@builder(**DEFAULTS)
def triton(
    repository: str | Path,
    *args: str,
    models: Iterable[str],
    env: Mapping[str, str] | None = None,
    port: int = 8000,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model repository with Triton.

    :param repository: A local directory, which is brought along.
    :param models: The models that must be ready.
    :param args: Further arguments of ``tritonserver``, one string each.
    :param env: Environment of the server. Sent over SSH, never on a command line. Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8000.
    :param files: Local files and directories to copy, by their path in the server's working directory; see
        :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    require_known("triton", fields, ("repository", "models", "files", "env", "port"))
    needs: WorkloadFields = {**DEFAULTS, **fields}
    brought = {**(files or {}), REPOSITORY: repository}
    wanted = {"models": "\n".join(models)}
    return build("triton", args=args, env=env, files=brought, port=port, details=wanted, **needs)


class TritonAdapter(HttpServer):
    """Triton: ready when it and each of the workload's models are."""

    name = kind = "triton"
    default_image = IMAGE
    warmup_s = 600.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``tritonserver``."""
        arguments = shlex.join(["--model-repository", REPOSITORY, "--http-port", str(workload.port), *workload.args])
        return Launch(f'exec tritonserver --http-address "${{VASTGPU_HOST:-127.0.0.1}}" {arguments}\n')

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it and each model are ready."""
        models = detail(workload, "models").splitlines()
        each = (Question(f"model_{number}", f"/v2/models/{name}/ready") for number, name in enumerate(models))
        return (Question("health", "/v2/health/ready"), *each)

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """Ready once every question is answered with 200."""
        asked = [question.name for question in self.questions(workload)]
        return Ready() if all(name in answers and answers[name].status == 200 for name in asked) else None
