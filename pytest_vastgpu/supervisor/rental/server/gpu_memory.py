"""How much memory of the GPUs is in use, and by whom: the command that asks, and what its output says. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from enum import StrEnum

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.hostcheck.facts import SMI_LIMIT_S
from pytest_vastgpu.hostcheck.judge import HELD_MB
from pytest_vastgpu.hostcheck.judge import HELD_SHARE
from pytest_vastgpu.supervisor.rental.server import job

LIMIT_S = 2 * SMI_LIMIT_S + 3.0
"""Time limit of each script here: they ask ``nvidia-smi`` up to two questions at a time."""
GROWTH = 0.10
"""A server's GPU memory may have grown by this share of what it was when it was ready."""
NOISE_MIB = 64.0
"""A difference below this is none: drivers take and give back some blocks by themselves."""

_ASK = rf"""
command -v nvidia-smi >/dev/null 2>&1 || exit 0
key=${job.API_KEY}
unset {job.API_KEY}
limited() {{ if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi; }}
smi() {{ limited {SMI_LIMIT_S} nvidia-smi "--query-$1=$2" --format=csv,noheader,nounits 2>&1; }}
""".lstrip()
_MEMORY = """
memory=$(smi gpu memory.used,memory.total)
code=$?
wait
printf '%s\n' "$memory" | sed 's/^/gpu /'
echo "end $code"
"""
# nvidia-smi may name processes by ids of the host, which mean nothing here: only what /proc has is inside. The key is
# kept out of the environment of what is started here, which would else count as the server's.
_PROCESSES = rf"""
smi compute-apps pid,used_memory,process_name | while IFS=', ' read -r pid used name; do
  whose=outside
  case $pid in ''|*[!0-9]*) continue ;; esac
  [ ! -d "/proc/$pid" ] || whose=inside
  printf '{job.API_KEY}=%s\n' "$key" | grep -qsFf - "/proc/$pid/environ" && whose=server
  echo "process $whose $pid $used $name"
done &
"""
QUICK_SCRIPT = f"{_ASK}{_MEMORY}"
"""Prints the memory of each GPU."""
SCRIPT = f"{_ASK}{_PROCESSES}{_MEMORY}"
"""Prints the memory of each GPU, and the processes that hold some. The instance's key is in its environment."""


class Whose(StrEnum):
    """Whose process holds memory of a GPU."""

    SERVER = "server"
    """It has the instance's key in its environment, as all that the server has started."""
    INSIDE = "inside"
    """Another process on the instance."""
    OUTSIDE = "outside"
    """No process that the instance can see."""


@dataclass(frozen=True)
class Process:
    """A process that holds memory of a GPU."""

    pid: int
    name: str
    used_mib: float
    whose: Whose

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name}) holds {amount(self.used_mib)}"


@dataclass(frozen=True)
class GpuMemory:
    """The memory of all GPUs at one moment."""

    used_mib: tuple[float, ...] = ()
    """Of each GPU, in the driver's order."""
    total_mib: tuple[float, ...] = ()
    processes: tuple[Process, ...] = ()
    exit_code: int = 0
    """That of ``nvidia-smi``."""
    said: str = ""
    """What ``nvidia-smi`` printed where it failed."""

    def others(self) -> str:
        """The processes on the instance that are not the server's, in words; empty without any."""
        return ", ".join(str(each) for each in self.processes if each.whose is Whose.INSIDE)

    def held(self) -> str:
        """Which GPU has too much memory in use for a server to be started, in words; empty where none has.

        The limit is that of the host check.
        """
        for number, (used, total) in enumerate(zip(self.used_mib, self.total_mib, strict=True)):
            if used > max(HELD_MB, total * HELD_SHARE):
                who = ", ".join(map(str, self.processes)) or "no process that the instance can see holds it"
                return f"{amount(used)} of {amount(total)} of GPU {number} are in use: {who}"
        return ""


def parse(output: str) -> GpuMemory | None:
    """Read the output of a script; None where it says nothing, as without ``nvidia-smi``."""
    ended = re.search(r"^end (\d{1,9})$", output, re.MULTILINE)
    if ended is None:
        return None
    lines = re.findall(r"^gpu (.*)$", output, re.MULTILINE)
    if code := int(ended[1]):
        return GpuMemory(exit_code=code, said="\n".join(lines))
    cells = [found for line in lines if (found := re.fullmatch(r"\s*([\d.]{1,12})\s*,\s*([\d.]{1,12})\s*", line))]
    if len(cells) != len(lines) or not lines:
        return None
    held = re.findall(r"^process (\w+) (\d{1,18}) (\S{1,20}) ?(.*)$", output, re.MULTILINE)
    try:
        return GpuMemory(
            tuple(float(found[1]) for found in cells),
            tuple(float(found[2]) for found in cells),
            tuple(Process(int(pid), _name(name), _mib(used), Whose(whose)) for whose, pid, used, name in held),
        )
    except ValueError:  # the host's answer is not trusted
        return None


def grown(before: GpuMemory | None, now: GpuMemory | None) -> str:
    """How the GPU memory has grown by more than :data:`GROWTH`, in words; empty where it has not, or is not known.

    :param before: When the server was ready.
    """
    if before is None or now is None:
        return ""
    pairs = list(zip(before.used_mib, now.used_mib, strict=False))
    for number, (was, used) in enumerate(pairs):
        if used > was * (1 + GROWTH) and used > was + NOISE_MIB:
            which = f" of GPU {number}" if len(pairs) > 1 else ""
            others = now.others()
            text = f"its GPU memory{which} has grown from {amount(was)} to {amount(used)}"
            return f"{text}, of which {others}" if others else text
    return ""


def amount(mib: float) -> str:
    """``11.2 GiB``, or ``300 MiB``."""
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def fewer(before: GpuMemory, now: GpuMemory) -> bool:
    """Whether a GPU is missing that was there."""
    return len(now.used_mib) < len(before.used_mib)


def _name(text: str) -> str:
    return posixpath.basename(sanitize.line(text).strip())[:80] or "unknown"


def _mib(text: str) -> float:
    """The memory of a process; 0 where the driver does not say."""
    return float(text) if re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", text) else 0.0
