"""Collects facts about a machine: one shell script for one round trip, and a parser for its output.

The script is POSIX shell and requires none of the tools that it calls. All slow commands run in parallel with a time
limit, so that the script finishes within a second on a healthy machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_vastgpu.hostcheck import cgroups

TIMEOUT_S = 15.0
"""For the round trip: a hanging driver takes :data:`SMI_LIMIT_S`, and a busy disk takes some more."""
SMI_LIMIT_S = 6
"""``nvidia-smi`` answers within a second, or within three if the driver must first be loaded."""

NOTES = rf"""
PATH="$PATH:/usr/sbin:/sbin"
unset OMP_NUM_THREADS OMP_THREAD_LIMIT # nproc would count those instead of cores
notes=$(mktemp -d) || exit 1
trap 'rm -rf "$notes"' EXIT
limited() {{ if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi; }}
note() {{
  what=$1; shift
  ("$@") > "$notes/$what" 2>&1 < /dev/null; printf '\n@@ %s %s\n' "$what" $? >> "$notes/$what"
}}
smi() {{ limited {SMI_LIMIT_S} nvidia-smi "$@"; }}
ask_gpu() {{ smi "--query-$1=$2" --format=csv,noheader,nounits; }}
"""
"""The start of a script that notes what commands say, each as a section that :func:`sections` reads."""
REPORT = """
wait
cat "$notes"/*
echo "@@ end 0"
"""
"""Its end: prints all notes once their commands are through."""

SCRIPT = rf"""
{NOTES}
libcuda() {{
  ldconfig -p 2>/dev/null | grep -F libcuda.so && return
  python3 -c 'import ctypes; ctypes.CDLL("libcuda.so.1"); print("loaded")' 2>/dev/null && return
  ls /usr/lib/*/libcuda.so.1 /usr/lib64/libcuda.so.1 /usr/local/*/lib64/libcuda.so.1 2>/dev/null && return
  command -v ldconfig >/dev/null 2>&1 && return 1
  return 2
}}
way_out() {{
  if command -v curl >/dev/null 2>&1; then
    curl -s -o /dev/null --connect-timeout 0.7 --max-time 0.7 -w '%{{time_connect}}' https://huggingface.co/
  else
    limited 1 python3 -c 'import socket; socket.create_connection(("huggingface.co", 443), 0.7)' 2>/dev/null
  fi
}}
limits() {{
{cgroups.SCRIPT}}}
if command -v nvidia-smi >/dev/null 2>&1; then
  note gpus ask_gpu gpu name,memory.total,memory.used,driver_version &
  note kinds ask_gpu gpu compute_cap,ecc.errors.uncorrected.volatile.total,pci.bus_id &
  note holders ask_gpu compute-apps pid,process_name,used_memory &
  note driver smi &
fi
note way_out way_out &
note libcuda libcuda &
note nodes sh -c 'ls -d /dev/nvidia[0-9]*'
note disk df -Pk .
note shm df -Pk /dev/shm
note cores nproc
note memory grep MemTotal: /proc/meminfo
note limits limits
note uptime cat /proc/uptime
note kernel sh -c 'dmesg | grep -E "NVRM: (Xid|.*fallen off)" | tail -n 20'
{REPORT}
"""

OFFLINE_SCRIPT = SCRIPT.replace("note way_out way_out &\n", "")
"""The same without a look at the network, for this machine: a network that is silent would delay everything."""


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver reports it."""

    name: str
    total_mb: float
    used_mb: float
    driver: str
    compute_cap: float = 0.0
    """0 if an old driver does not report it."""
    ecc_errors: int = 0
    """Uncorrected errors since the driver was loaded; 0 also for cards that do not count."""
    bus_id: str = ""
    """For example ``00000000:01:00.0``; empty if the driver does not report it."""


@dataclass(frozen=True)
class Holder:
    """A process that holds VRAM."""

    pid: int
    name: str
    used_mb: float


@dataclass(frozen=True)
class HostFacts:
    """The facts about a machine. What the script could not determine is absent, not wrong."""

    complete: bool = False
    """Whether the script ran to its end."""
    gpus: tuple[Gpu, ...] = ()
    smi_present: bool = False
    smi_exit_code: int | None = None
    smi_text: str = ""
    """The output of ``nvidia-smi`` if it failed."""
    device_nodes: int = 0
    """Number of GPUs that have a file in ``/dev``."""
    cuda: float = 0.0
    """Newest CUDA version that the driver supports; 0 if unknown."""
    libcuda: bool | None = None
    """Whether the loader finds the driver's library; None if unknown."""
    holders: tuple[Holder, ...] = ()
    disk_free_gb: float | None = None
    shm_mb: float | None = None
    cpu_cores: float | None = None
    """Cores of the machine, or of the container's quota if that is less."""
    memory_mb: float | None = None
    """RAM of the machine, or the container's limit if that is less."""
    way_out: str = ""
    """``open``, ``no_name`` (names do not resolve), ``refused``, ``slow`` (no answer yet), or empty: unknown."""
    kernel_lines: tuple[str, ...] = ()
    """The newest GPU errors in the kernel's log, also those of GPUs that others use."""
    uptime_s: float | None = None
    """Seconds since the kernel started: the zero of the times in its log."""


_SECTION = re.compile(r"^@@ (\w{1,40}) (\d{1,9})$", re.MULTILINE)
_MOST = 1e18
_CURL_WAYS = {6: "no_name", 7: "refused", 28: "slow"}


def parse(output: str) -> HostFacts:
    """Parse the output of :data:`SCRIPT`. Missing or garbled parts are left out."""
    texts, codes = sections(output)
    smi_code = codes.get("gpus")
    return HostFacts(
        complete="end" in codes,
        gpus=_gpus(texts.get("gpus", ""), texts.get("kinds", "")) if smi_code == 0 else (),
        smi_present="gpus" in codes,
        smi_exit_code=smi_code,
        smi_text=texts.get("gpus", "") if smi_code else "",
        device_nodes=len(texts["nodes"].splitlines()) if codes.get("nodes") == 0 else 0,
        cuda=_number(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", texts.get("driver", "")) or 0.0,
        libcuda={0: True, 1: False}.get(codes.get("libcuda", 2)),
        holders=holders(texts.get("holders", "")) if codes.get("holders") == 0 else (),
        disk_free_gb=df(texts.get("disk", ""), 4, 1024 / 1e9),
        shm_mb=df(texts.get("shm", ""), 2, 1024 / 1e6),
        cpu_cores=_least(cgroups.cores(texts.get("limits", "")), _number(r"^(\d+)$", texts.get("cores", ""))),
        memory_mb=_least(cgroups.memory_mb(texts.get("limits", "")), _memory(texts.get("memory", ""))),
        way_out=_way_out(codes.get("way_out"), texts.get("way_out", "")),
        kernel_lines=tuple(line.strip() for line in texts.get("kernel", "").splitlines() if "NVRM" in line),
        uptime_s=_number(r"^(\d+\.?\d*) ", texts.get("uptime", "")),
    )


def sections(output: str) -> tuple[dict[str, str], dict[str, int]]:
    """The text and the exit code of each noted command, by the note's name."""
    texts: dict[str, str] = {}
    codes: dict[str, int] = {}
    start = 0
    for match in _SECTION.finditer(output):
        texts[match.group(1)] = output[start : match.start()].strip()
        codes[match.group(1)] = int(match.group(2))
        start = match.end()
    return texts, codes


def _gpus(text: str, kinds: str) -> tuple[Gpu, ...]:
    gpus = []
    more = [re.split(r"\s*,\s*", line.strip()) for line in kinds.splitlines()]
    for number, line in enumerate(text.splitlines()):
        cells = re.split(r"\s*,\s*", line.strip())
        if len(cells) != 4:
            continue
        cap, ecc, bus_id = more[number] if number < len(more) and len(more[number]) == 3 else ("", "", "")
        total, used = smi_number(cells[1]), smi_number(cells[2])
        gpus.append(Gpu(cells[0], total, used, cells[3], smi_number(cap), int(smi_number(ecc)), bus_id))
    return tuple(gpus)


def holders(text: str) -> tuple[Holder, ...]:
    """Parse the answer to a query of ``pid,process_name,used_memory``."""
    found = re.findall(r"^\s*(\d{1,18})\s*,\s*(.*?)\s*,\s*(\S+)\s*$", text, re.MULTILINE)
    return tuple(Holder(int(pid), name, smi_number(used)) for pid, name, used in found)


def df(text: str, column: int, factor: float) -> float | None:
    """A column of the output of ``df -Pk`` for one place: 2 is the size, 4 the free space; None where it has none.

    :param factor: Multiplies the kibibytes.
    """
    lines = text.splitlines()
    found = re.search(r"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", lines[-1]) if lines else None
    return float(found.group(column - 1)) * factor if found else None


def _memory(text: str) -> float | None:
    found = _number(r"MemTotal:\s*(\d+) kB", text)
    return found * 1024 / 1e6 if found else None


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _way_out(code: int | None, text: str) -> str:
    if code == 0 or (_number(r"^(\d+\.\d+)", text) or 0.0) > 0:
        return "open"
    return _CURL_WAYS.get(code or 0, "")


def _number(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text, re.MULTILINE)
    return float(found.group(1)) if found else None


def smi_number(text: str) -> float:
    """A number of ``nvidia-smi``; 0 for ``[N/A]`` and similar texts, and for values above any real count."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if abs(number) < _MOST else 0.0
