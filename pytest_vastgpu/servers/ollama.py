"""The adapter ``ollama``: starts Ollama, has it pull a model, and recognises the state of its start."""

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

IMAGE = "ollama/ollama:latest"
"""The server's usual image."""
DEFAULTS: WorkloadFields = {"disk_gb": 60.0}


@builder(**DEFAULTS)
def ollama(
    model: str,
    *args: str,
    env: Mapping[str, str] | None = None,
    port: int = 11434,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model with Ollama.

    :param model: A name in Ollama's library, such as ``llama3.2:1b``; also the name that clients use.
    :param args: Further arguments of the server, one string each.
    :param env: Environment of the server. Sent over SSH, never on a command line. Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 11434.
    :param files: Local files and directories to copy, by their path in the server's working directory; see
        :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    require_known("ollama", fields, ("model", "files", "env", "port"))
    text("model", model, "'org/model'")
    needs: WorkloadFields = {**DEFAULTS, **fields}
    return build("ollama", model=model, args=args, env=env, files=files, port=port, **needs)


class OllamaAdapter(HttpServer):
    """Ollama: ready when it has the workload's model and has completed one token."""

    name = "ollama"
    kind = "ollama"
    default_image = IMAGE
    warmup_s = 900.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``ollama serve``, and have it pull the model."""
        model = shlex.quote(workload.model)
        script = (
            f'export OLLAMA_HOST="${{VASTGPU_HOST:-127.0.0.1}}:{workload.port}"\n'
            "ollama serve & server=$!\n"
            "trap 'kill $server' TERM INT\n"
            'until ollama list >/dev/null 2>&1; do kill -0 "$server" || break; sleep 0.2; done\n'
            f"ollama pull {model} || exit\n"
            'wait "$server"\n'
        )
        return Launch(script)

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it has the model, and completes one token."""
        return openai_api.questions(workload.model)

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """See :func:`~pytest_vastgpu.servers.openai_api.served`."""
        return openai_api.served(workload.model, answers)
