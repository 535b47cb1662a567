"""The adapter ``host``: an instance on which tests run, and no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_vastgpu.diagnosis.verdicts import judge_end
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready

IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
"""PyTorch's official image: what tests on a GPU need most often."""
IMAGE_GB = 3.5
"""Its size as it is downloaded, rounded up."""
IMAGE_CUDA = 12.8
IMAGE_COMPUTE_CAP = 7.5
"""The oldest GPUs that its PyTorch is built for: Turing."""


def numbered(workload: Workload, number: int) -> Workload:
    """The workload of one of several equal hosts: two of them never share an instance.

    :param number: 1 for the first.
    """
    return replace(workload, details=tuple(sorted((dict(workload.details) | {"host": str(number)}).items())))


def alike(workload: Workload) -> Workload | None:
    """What all hosts of a run have in common; None for the workload of a server."""
    if workload.adapter != HOST:
        return None
    return replace(workload, details=tuple((name, value) for name, value in workload.details if name != "host"))


def beside(workload: Workload, number: int) -> Workload:
    """The workload of a host for one of several runs at the same time: two of them never share an instance.

    :param number: Tells the runs apart; 0: the workload as it is.
    """
    if not number:
        return workload
    return replace(workload, details=tuple(sorted((*workload.details, ("beside", str(number))))))


class HostAdapter:
    """A host for tests: ready as soon as its environment is set up, which the workload's setup command does."""

    name = HOST
    default_image = IMAGE
    warmup_s = 60.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start a process that does nothing: its end tells that the instance has lost its processes."""
        return Launch("exec tail -f /dev/null\n")

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        """None: there is no server."""
        return {}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        """None: there is no server."""
        return ()

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """Ready, unless its process has ended."""
        if seen.exit_code is not None:
            return Failed(judge_end(seen.log, context=f"gpus={workload.gpus}", exit_code=seen.exit_code))
        return Ready()
