"""What goes on around a server while it starts: sockets, processes, GPUs. The same for every adapter.

These probes answer from a note that is at most some seconds old: a server is looked at ten times a second, and
``nvidia-smi`` alone may take a second.
"""

from __future__ import annotations

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.readiness.verdicts import classify

NOTE_AGE_S = 10


def _noted(name: str, command: str) -> Probe:
    return Probe(
        name,
        f'note="$HOME/.vastgpu/probe-{name}"; now=$(date +%s); at=$(cat "$note.at" 2>/dev/null || echo 0)\n'
        f"if [ $((now - at)) -ge {NOTE_AGE_S} ]; then\n"
        f'  mkdir -p "$HOME/.vastgpu" && echo "$now" > "$note.at"\n'
        f'  {{ {command}; }} > "$note.new" 2>&1; echo "@@ $?" >> "$note.new"; mv "$note.new" "$note"\n'
        "fi\n"
        'cat "$note"',
    )


SURROUNDINGS: tuple[Probe, ...] = (
    _noted("sockets", "if command -v ss >/dev/null 2>&1; then ss -lntp; else cat /proc/net/tcp /proc/net/tcp6; fi"),
    _noted("processes", "ps -eo pid,ppid,stat,etime,rss,args 2>/dev/null || ps"),
    _noted("gpu", "if command -v nvidia-smi >/dev/null 2>&1; then timeout 8 nvidia-smi; fi"),
)
"""Evidence of a failed start; the last one is also judged."""


def gpu_trouble(workload: Workload, probe: ProbeResult | None) -> Verdict | None:
    """A GPU that was there when the host was checked, and went away while the server started."""
    if workload.gpus == 0 or probe is None or probe.stdout.rstrip().endswith("@@ 0"):
        return None
    verdict = classify(probe.stdout, channel=Channel.NVIDIA_SMI)
    return verdict if verdict.failure_class is FailureClass.INFRA_FATAL else None
