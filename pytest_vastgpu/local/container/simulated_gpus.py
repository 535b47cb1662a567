"""``nvidia-smi`` for an instance with simulated GPUs. It is copied there, so it imports the standard library only.

No process holds memory of a simulated GPU or uses it, unless the files :data:`PROCESSES` and :data:`LOAD` say so.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

FAILED_STATUS = 9
"""The exit status of ``nvidia-smi`` if it cannot reach the driver. Source: its manual."""
INVALID_STATUS = 2
"""The exit status for arguments that are not valid."""
NO_DEVICE_STATUS = 6
"""The exit status for a device that does not exist."""

PROCESSES = ".gpu-processes"
"""A file in the home: a line ``GPU PID MIB NAME`` for each process that holds memory of a GPU. A process that has ended
holds none; what has id 0 holds it for ever, and is not listed, as if it were outside the instance."""
LOAD = ".gpu-load"
"""A file in the home: how much the instance uses its GPUs, in percent. Without it, not at all."""
REASONS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
}
"""Why a clock is not higher. Source: NVML's constants; drivers before 535 say ``throttle`` for ``event``."""
IDLE_MHZ, MOST_MHZ, SLOWED_SHARE = 210, 3105, 0.3
IDLE_MEMORY_MHZ, MOST_MEMORY_MHZ = 405, 10501


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
    **dict.fromkeys(("clocks.sm", "clocks.gr", "clocks.mem", "clocks.max.sm", "clocks.max.mem"), "MHz"),
    **dict.fromkeys(("power.default_limit", "power.max_limit", "enforced.power.limit"), "W"),
}
"""The units of query fields."""
USED_MB = 2
"""The memory of an idle device that the driver uses."""


def _facts(index: int, gpu: dict[str, Any], count: int, held: list[Holder], load: int) -> Facts:
    """Return all query fields of a device.

    :param load: How much the instance uses it, in percent.
    """
    percent = max(load, gpu.get("busy", 0))
    given = gpu.get("reasons", 0)
    reasons = given if percent else given | REASONS["gpu_idle"]
    sm = IDLE_MHZ if not percent else round(MOST_MHZ * (SLOWED_SHARE if given else 0.9))
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
        "pstate": "P0" if percent else "P8",
        "persistence_mode": "Enabled",
        "display_active": "Disabled",
        "compute_mode": "Default",
        "mig.mode.current": "[N/A]",
        "ecc.mode.current": "[N/A]",
        "ecc.errors.corrected.volatile.total": "[N/A]",
        "ecc.errors.uncorrected.volatile.total": "[N/A]",
        "pcie.link.gen.current": "4" if percent else "1",
        "pcie.link.gen.max": "4",
        "pcie.link.width.current": str(gpu.get("lanes", 16)),
        "pcie.link.width.max": "16",
        "temperature.gpu": "91" if given & REASONS["hw_thermal_slowdown"] else "34",
        "fan.speed": "[N/A]",
        "memory.total": str(gpu["ram_mb"]),
        "memory.used": str(used),
        "memory.free": str(gpu["ram_mb"] - used),
        "utilization.gpu": str(percent),
        "utilization.memory": str(percent // 2),
        "power.draw": f"{21 + 4 * percent:.2f}",
        "power.limit": "450.00",
        "power.default_limit": "450.00",
        "power.max_limit": "600.00",
        "enforced.power.limit": "450.00",
        "clocks.sm": str(sm),
        "clocks.gr": str(sm),
        "clocks.mem": str(MOST_MEMORY_MHZ if percent else IDLE_MEMORY_MHZ),
        "clocks.max.sm": str(MOST_MHZ),
        "clocks.max.mem": str(MOST_MEMORY_MHZ),
        **_reasons(reasons),
    }


def _reasons(bits: int) -> Facts:
    found: Facts = {}
    for old_and_new in ("clocks_throttle_reasons", "clocks_event_reasons"):
        found[f"{old_and_new}.active"] = f"0x{bits:016x}"
        for name, bit in REASONS.items():
            found[f"{old_and_new}.{name}"] = "Active" if bits & bit else "Not Active"
    return found


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
        lines.append(
            f"| {row['index']:>3}  {row['name']:<30} {row['pci.bus_id']} | {memory:>20} | {row['utilization.gpu']:>7}%"
        )
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
_LOOPS = {"-l": 1.0, "--loop": 1.0, "-lms": 0.001, "--loop-ms": 0.001}
"""Options that repeat the answer, and the seconds of their unit."""
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


def answer(gpus: list[dict[str, Any]], arguments: list[str], held: list[Holder] | None = None, load: int = 0) -> str:
    """Return the output of ``nvidia-smi`` for these arguments.

    :param load: How much the instance uses its GPUs, in percent.
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
    rows = [_facts(index, gpu, len(gpus), held, load) for index, gpu in enumerate(gpus)]
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


def loop_s(arguments: list[str]) -> tuple[list[str], float]:
    """The arguments without those that ask for answers again and again, and the seconds from one to the next, or 0."""
    rest, every_s, given = [], 0.0, iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name in _LOOPS:
            every_s = float(value if equals else next(given, "0")) * _LOOPS[name]
        else:
            rest.append(argument)
    return rest, every_s


def main() -> None:
    """Run as ``nvidia-smi``. The first argument is the file that describes the devices."""
    machine = json.loads(Path(sys.argv[1]).read_text())
    if machine["failure"]:
        sys.stdout.write(f"{machine['failure']}\n")
        sys.exit(FAILED_STATUS)
    arguments, every_s = loop_s(sys.argv[2:])
    home = Path.home()
    while True:
        told, load = home / PROCESSES, home / LOAD
        try:
            held = holders(told.read_text()) if told.exists() else None
            text = answer(machine["gpus"], arguments, held, int(load.read_text() or 0) if load.exists() else 0)
        except NvidiaSmiError as error:
            sys.stdout.write(f"{error}\n")
            sys.exit(error.status)
        sys.stdout.write(f"{text}\n" if text else "")
        sys.stdout.flush()
        if not every_s:
            return
        arguments = [f"{each},noheader" if each.startswith("--format=") else each for each in arguments]
        time.sleep(every_s)


if __name__ == "__main__":
    main()
