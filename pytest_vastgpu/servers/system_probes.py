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

LISTENERS = Probe(
    "listeners",
    r"""
sockets=' '
for environ in $(printf 'VASTGPU_API_KEY=%s\n' "$VASTGPU_API_KEY" | grep -slFf - /proc/[0-9]*/environ); do
  for socket in $(ls -l "${environ%environ}fd" 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p'); do
    sockets="$sockets$socket "
  done
done
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep ' 0A ' | while read -r _ local _ _ _ _ _ _ _ socket _; do
  case $sockets in *" $socket "*) echo "$local" ;; esac
done | sort -u
""".strip(),
    every_s=EVERY_S,
)
"""The TCP addresses on which the server's processes listen, as the kernel writes them: ``0100007F:1F40``.

Its processes are those that have its key in their environment, however they were started. Not every image has ``ss``.
"""

SURROUNDINGS: tuple[Probe, ...] = (
    LISTENERS,
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
