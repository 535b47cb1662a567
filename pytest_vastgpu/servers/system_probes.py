"""Probes of the system around a starting server: sockets, processes, GPUs. They are the same for every adapter."""

from __future__ import annotations

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload

EVERY_S = 10.0
"""Seconds between two runs: ``nvidia-smi`` alone may take a second."""

SURROUNDINGS: tuple[Probe, ...] = (
    Probe(
        "sockets",
        "if command -v ss >/dev/null 2>&1; then ss -lntp; else cat /proc/net/tcp /proc/net/tcp6; fi",
        every_s=EVERY_S,
    ),
    Probe("processes", "ps -eo pid,ppid,stat,etime,rss,args 2>/dev/null || ps", every_s=EVERY_S),
    Probe("gpu", "if command -v nvidia-smi >/dev/null 2>&1; then nvidia-smi 2>&1; fi", every_s=EVERY_S),
)
"""Evidence for a failed start; :func:`gpu_trouble` also judges the last one."""


def gpu_trouble(workload: Workload, probe: ProbeResult | None) -> Verdict | None:
    """The verdict if a GPU that passed the host check has disappeared while the server started."""
    if workload.gpus == 0 or probe is None or probe.ok:
        return None
    verdict = classify(probe.stdout, channel=Channel.NVIDIA_SMI)
    return verdict if verdict.failure_class is FailureClass.INFRA_FATAL else None
