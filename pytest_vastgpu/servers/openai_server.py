"""The adapter ``openai_server``: any server of the OpenAI-compatible API that a shell command starts."""

from __future__ import annotations

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
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.tasks import Task
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import text


@builder()
def openai_server(
    command: str,
    *,
    model: str,
    task: Task = tasks.DEFAULT,
    env: Mapping[str, str] | None = None,
    port: int = 8000,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that is any server of the OpenAI-compatible API: TGI, ``trtllm-serve``, ``transformers serve`` ...

    :param command: Shell text that runs the server in the foreground, listening on ``$VASTGPU_HOST`` and ``port``. The
        instance's random key is in its environment as ``VASTGPU_API_KEY``, for servers that can require a key.
    :param model: The name that clients use: what the server lists at ``/v1/models``, if it lists its models.
    :param task: What the model is for: ``generate`` text, ``embed`` it, ``score`` one text against another,
        ``classify`` it, or ``transcribe`` speech. The server is ready once it has done that. Default: ``generate``.
    :param env: Environment of the server. Sent over SSH, never on a command line. Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8000.
    :param files: Local files and directories to copy, by their path in the server's working directory; see
        :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    text("command", command, "'transformers serve --port 8000'")
    text("model", model, "'org/model'")
    details = {"task": tasks.known("openai_server", task)}
    return build(
        "openai_server", command=command, model=model, env=env, files=files, port=port, details=details, **fields
    )


class OpenAiServerAdapter(HttpServer):
    """Any server of the API: ready when it has done its task once, and lists the workload's model if it lists any."""

    name = "openai_server"
    kind = ""
    default_image = "python:3.12-slim"
    warmup_s = 600.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Run the command unchanged."""
        return Launch(f"{workload.command}\n")

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """What models it lists, if it does, and whether it does its task."""
        return openai_api.questions(workload.model, tasks.of(workload), must_list=False)

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """See :func:`~pytest_vastgpu.servers.openai_api.served`."""
        return openai_api.served(workload.model, answers, tasks.of(workload), tells_tasks=True)
