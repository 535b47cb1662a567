"""The adapter ``command``: any HTTP server that a shell command starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from pytest_vastgpu.diagnosis.verdicts import ends_start
from pytest_vastgpu.diagnosis.verdicts import judge_end
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.system_probes import SURROUNDINGS
from pytest_vastgpu.servers.system_probes import gpu_trouble
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import text


@builder()
def command(
    command: str,
    *,
    port: int = 8000,
    ready_path: str = "/",
    model: str = "",
    files: Mapping[str, str | Path] | None = None,
    env: Mapping[str, str] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that is any server.

    :param command: Shell text that runs the server in the foreground, listening on 127.0.0.1 and ``port``. The
        instance's random key is in its environment as ``VASTGPU_API_KEY``, for servers that can require a key.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8000.
    :param ready_path: Path that answers 200 once the server is ready. Default: '/'.
    :param model: Also wait until ``/v1/models`` lists this model; empty: any server. Default: ''.
    :param files: Local files and directories to copy, by their path in the server's working directory; see
        :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param env: Environment of the server. Sent over SSH, never on a command line. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    text("command", command, "'python3 server.py --port 8000'")
    return build(
        "command", model=model, command=command, env=env, files=files, port=port, ready_path=ready_path, **fields
    )


class CommandAdapter:
    """Any server: ready when its path answers 200, and lists the workload's model if it names one."""

    name = "command"
    default_image = "python:3.12-slim"
    warmup_s = 300.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Run the command unchanged."""
        return Launch(f"{workload.command}\n")

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        """The header with the key; servers that require none ignore it."""
        return {"Authorization": f"Bearer {api_key}"}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        """The server's answers, in one round trip, and the state of the system around it."""
        requests = [http_probe.request("ready", workload.ready_path)]
        if workload.model:
            requests.append(http_probe.request("models", "/v1/models"))
        return (Probe("answers", http_probe.script(workload.port, *requests), 15.0, workload.port), *SURROUNDINGS)

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """Ready by its answers; failed by its exit, by its log once it shows nothing new, or by the loss of a GPU.

        A server that answers without the rented GPU has failed, too.
        """
        context = f"gpus={workload.gpus}"
        if seen.exit_code is not None:
            return Failed(judge_end(seen.log, context=context, exit_code=seen.exit_code))
        judged = judge_log(seen.log, context=context, still_s=seen.still_s)
        if ends_start(judged.verdict):
            return Failed(judged.verdict)
        probe = seen.probes.get("answers")
        answers = http_probe.answers(probe.stdout) if probe else {}
        ready = answers.get("ready")
        if ready is not None and ready.status == 200:
            if not workload.model:
                return Ready()
            models = answers.get("models")
            if models is not None and workload.model in (http_probe.listed_models(models) or ()):
                return Ready()
            return Warming(Progress("serving"))
        lost = gpu_trouble(workload, seen.probes.get("gpu"))
        if lost:
            return Failed(lost)
        told = judged.progress
        answering = ready is not None and ready.status and told == Progress("starting")
        return Warming(Progress("answering") if answering else told)
