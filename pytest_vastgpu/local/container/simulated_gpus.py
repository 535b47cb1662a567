"""``nvidia-smi`` and ``ldconfig`` for an instance with simulated GPUs or GPU faults.

They lie in a directory that comes first in the instance's ``PATH``. Run as a program, this file is ``nvidia-smi``, so
it imports the standard library only.

No process holds memory of a simulated GPU, unless the file :data:`PROCESSES` says so.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_vastgpu.local.container.spec import ContainerFaults
    from pytest_vastgpu.local.gpu import SimulatedGpu

FAILED_STATUS = 9
"""The exit status of ``nvidia-smi`` if it cannot reach the driver. Source: its manual."""
INVALID_STATUS = 2
"""The exit status for arguments that are not valid."""
NO_DEVICE_STATUS = 6
"""The exit status for a device that does not exist."""
SYSTEM_LDCONFIG = "/sbin/ldconfig"

PROCESSES = ".gpu-processes"
"""A file in the home: a line ``GPU PID MIB NAME`` for each process that holds memory of a GPU. A process that has ended
holds none; what has id 0 holds it for ever, and is not listed, as if it were outside the instance."""

LDCONFIG = """\
#!/bin/sh
# The dynamic linker's cache as a machine with this instance's GPU would show it.
case "$1" in
-p | --print-cache) ;;
*) exec {system} "$@" ;;
esac
{system} "$@" | grep -v 'libcuda\\.so'
{libcuda}
"""
LIBCUDA = "printf '\\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1\\n'"


def needed(gpus: tuple[SimulatedGpu, ...], faults: ContainerFaults) -> bool:
    """Whether an instance needs such tools."""
    return bool(gpus or faults.nvidia_smi_fails or faults.libcuda_missing)


def install(directory: Path, gpus: tuple[SimulatedGpu, ...], faults: ContainerFaults) -> None:
    """Install the tools that the instance needs; it uses the system's own for the others."""
    if not needed(gpus, faults):
        return
    directory.mkdir(exist_ok=True)
    if gpus or faults.nvidia_smi_fails:
        described = [
            {
                "name": product_name(gpu.name),
                "ram_mb": gpu.ram_mb,
                "driver": gpu.driver_version,
                "cuda": f"{gpu.cuda_max_good:.1f}",
                "compute_cap": f"{gpu.compute_cap:.1f}",
            }
            for gpu in gpus
        ]
        (directory / "gpus.json").write_text(json.dumps({"gpus": described, "failure": faults.nvidia_smi_fails}))
        own = shutil.copy(__file__, directory / "nvidia_smi.py")  # the instance may not see the package, or its venv
        call = shlex.join([str(Path(sys.executable).resolve()), "-I", "-S", str(own), str(directory / "gpus.json")])
        _program(directory / "nvidia-smi", f'#!/bin/sh\nexec {call} "$@"\n')
    if gpus or faults.libcuda_missing:
        libcuda = "" if faults.libcuda_missing else LIBCUDA
        _program(directory / "ldconfig", LDCONFIG.format(system=SYSTEM_LDCONFIG, libcuda=libcuda))


def product_name(name: str) -> str:
    """Return the driver's name for a GPU that the market calls, for example, RTX 4090."""
    if name.startswith("NVIDIA"):
        return name
    return f"NVIDIA GeForce {name}" if re.match(r"[RG]TX \d{2}[5-9]0\b", name) else f"NVIDIA {name}"


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class NvidiaSmiError(Exception):
    """An error of ``nvidia-smi``: its message and exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


Facts = dict[str, str]


class Holder(NamedTuple):
    """A process that holds memory of a GPU."""

    gpu: int
    pid: int
    mib: int
    name: str


def holders(text: str) -> list[Holder]:
    """Parse the file :data:`PROCESSES`, without the processes that have ended."""
    found = [line.split(None, 3) for line in text.splitlines() if line.strip()]
    each = [Holder(int(gpu), int(pid), int(mib), name) for gpu, pid, mib, name in found]
    return [holder for holder in each if not holder.pid or Path(f"/proc/{holder.pid}").exists()]


UNITS = {
    **dict.fromkeys(("memory.total", "memory.used", "memory.free", "used_memory", "used_gpu_memory"), "MiB"),
    **dict.fromkeys(("utilization.gpu", "utilization.memory"), "%"),
    **dict.fromkeys(("power.draw", "power.limit"), "W"),
    **dict.fromkeys(("clocks.sm", "clocks.mem", "clocks.max.sm"), "MHz"),
}
"""The units of query fields."""
USED_MB = 2
"""The memory of an idle device that the driver uses."""


def _facts(index: int, gpu: dict[str, Any], count: int, held: list[Holder]) -> Facts:
    """Return all query fields of a device that does nothing."""
    used = USED_MB + sum(holder.mib for holder in held if holder.gpu == index)
    return {
        "index": str(index),
        "count": str(count),
        "name": gpu["name"],
        "gpu_name": gpu["name"],
        "uuid": f"GPU-00000000-0000-4000-8000-{index:012x}",
        "gpu_uuid": f"GPU-00000000-0000-4000-8000-{index:012x}",
        "serial": "[N/A]",
        "driver_version": gpu["driver"],
        "compute_cap": gpu["compute_cap"],
        "pci.bus_id": f"00000000:{index + 1:02X}:00.0",
        "gpu_bus_id": f"00000000:{index + 1:02X}:00.0",
        "pstate": "P8",
        "persistence_mode": "Enabled",
        "display_active": "Disabled",
        "compute_mode": "Default",
        "mig.mode.current": "[N/A]",
        "ecc.mode.current": "[N/A]",
        "ecc.errors.corrected.volatile.total": "[N/A]",
        "ecc.errors.uncorrected.volatile.total": "[N/A]",
        "pcie.link.gen.current": "4",
        "pcie.link.width.current": "16",
        "temperature.gpu": "34",
        "fan.speed": "[N/A]",
        "memory.total": str(gpu["ram_mb"]),
        "memory.used": str(used),
        "memory.free": str(gpu["ram_mb"] - used),
        "utilization.gpu": "0",
        "utilization.memory": "0",
        "power.draw": "21.00",
        "power.limit": "450.00",
        "clocks.sm": "210",
        "clocks.mem": "405",
        "clocks.max.sm": "3105",
    }


def _csv(rows: list[Facts], known: Collection[str], fields: str, form: str) -> str:
    options = [option.strip() for option in form.split(",")]
    if "csv" not in options:
        raise NvidiaSmiError('"--format=" must be given, with csv in it.', INVALID_STATUS)
    units = {} if "nounits" in options else UNITS
    names = [field.strip() for field in fields.split(",")]
    for name in names:
        if name not in known:
            raise NvidiaSmiError(f'Field "{name}" is not a valid field to query.', INVALID_STATUS)
    lines = [] if "noheader" in options else [[f"{n} [{units[n]}]" if n in units else n for n in names]]
    lines += [[f"{row[n]} {units[n]}" if n in units else row[n] for n in names] for row in rows]
    return "\n".join(", ".join(cells) for cells in lines)


def _list(rows: list[Facts]) -> str:
    return "\n".join(f"GPU {row['index']}: {row['name']} (UUID: {row['uuid']})" for row in rows)


def _table(rows: list[Facts], cuda: str) -> str:
    driver = rows[0]["driver_version"]
    rule = "+" + "-" * 89 + "+"
    lines = [
        rule,
        f"| NVIDIA-SMI {driver:<22} Driver Version: {driver:<14} CUDA Version: {cuda}",
        rule,
        "| GPU  Name (simulated)               Bus-Id           |         Memory-Usage | GPU-Util",
        rule,
    ]
    for row in rows:
        memory = f"{row['memory.used']}MiB / {row['memory.total']}MiB"
        lines.append(f"| {row['index']:>3}  {row['name']:<30} {row['pci.bus_id']} | {memory:>20} |       0%")
    lines += [rule, "", rule, "| Processes:", "|  No running processes found", rule]
    return "\n".join(f"{line:<90}|" if line.startswith("|") else line for line in lines)


def _details(rows: list[Facts], cuda: str) -> str:
    lines = [
        "",
        "==============NVSMI LOG==============",
        "",
        f"{'Driver Version':<42}: {rows[0]['driver_version']}",
        f"{'CUDA Version':<42}: {cuda}",
        f"{'Attached GPUs':<42}: {rows[0]['count']}",
    ]
    for row in rows:
        lines += [
            f"GPU {row['pci.bus_id']}",
            f"    {'Product Name':<38}: {row['name']}",
            f"    {'GPU UUID':<38}: {row['uuid']}",
            "    FB Memory Usage",
            f"        {'Total':<34}: {row['memory.total']} MiB",
            f"        {'Used':<34}: {row['memory.used']} MiB",
            f"        {'Free':<34}: {row['memory.free']} MiB",
            "    Utilization",
            f"        {'Gpu':<34}: {row['utilization.gpu']} %",
            "    Temperature",
            f"        {'GPU Current Temp':<34}: {row['temperature.gpu']} C",
            f"    {'Processes':<38}: None",
        ]
    return "\n".join(lines)


APP_FIELDS = ("gpu_name", "gpu_bus_id", "gpu_uuid", "pid", "process_name", "name", "used_memory", "used_gpu_memory")
_WITH_VALUE = ("-i", "--id", "-d", "--display")
_QUERIES = ("--query-gpu", "--query-compute-apps")


def _apps(rows: list[Facts], held: list[Holder]) -> list[Facts]:
    """Return the fields of the processes that hold memory of these devices."""
    by_index = {row["index"]: row for row in rows}
    return [
        {
            **{field: by_index[str(holder.gpu)].get(field, "") for field in APP_FIELDS},
            **dict.fromkeys(("process_name", "name"), holder.name),
            **dict.fromkeys(("used_memory", "used_gpu_memory"), str(holder.mib)),
            "pid": str(holder.pid),
        }
        for holder in held
        if holder.pid and str(holder.gpu) in by_index
    ]


def answer(gpus: list[dict[str, Any]], arguments: list[str], held: list[Holder] | None = None) -> str:
    """Return the output of ``nvidia-smi`` for these arguments.

    :raises NvidiaSmiError: if an argument is not valid, or a device does not exist.
    """
    given: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        given[name] = value if equals or name not in _WITH_VALUE else next(rest, "")
    unknown = given.keys() - {*_WITH_VALUE, *_QUERIES, "--format", "-L", "--list-gpus", "-q", "--query"}
    if unknown:
        raise NvidiaSmiError(f"Invalid combination of input arguments: {sorted(unknown)[0]}.", INVALID_STATUS)
    held = held or []
    rows = [_facts(index, gpu, len(gpus), held) for index, gpu in enumerate(gpus)]
    wanted = [number.strip() for number in (given.get("-i") or given.get("--id") or "").split(",") if number]
    shown = [row for row in rows if not wanted or row["index"] in wanted or row["uuid"] in wanted]
    if len(shown) < len(wanted) or not shown:
        raise NvidiaSmiError("No devices were found", NO_DEVICE_STATUS)
    form = given.get("--format", "")
    if "--query-gpu" in given:
        return _csv(shown, rows[0].keys(), given["--query-gpu"], form)
    if "--query-compute-apps" in given:
        return _csv(_apps(shown, held), APP_FIELDS, given["--query-compute-apps"], form)
    if given.keys() & {"-L", "--list-gpus"}:
        return _list(shown)
    cuda = gpus[0]["cuda"]
    return _details(shown, cuda) if given.keys() & {"-q", "--query"} else _table(shown, cuda)


def main() -> None:
    """Run as ``nvidia-smi``. The first argument is the file that describes the devices."""
    machine = json.loads(Path(sys.argv[1]).read_text())
    if machine["failure"]:
        sys.stdout.write(f"{machine['failure']}\n")
        sys.exit(FAILED_STATUS)
    try:
        told = Path.home() / PROCESSES
        text = answer(machine["gpus"], sys.argv[2:], holders(told.read_text()) if told.exists() else None)
    except NvidiaSmiError as error:
        sys.stdout.write(f"{error}\n")
        sys.exit(error.status)
    sys.stdout.write(f"{text}\n" if text else "")


if __name__ == "__main__":
    main()
