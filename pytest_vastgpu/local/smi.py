"""The tools of an instance whose GPUs are simulated, or whose GPU faults are: ``nvidia-smi`` and ``ldconfig``.

They are installed into a directory that comes first in the instance's ``PATH``. Run as a program, this file *is*
``nvidia-smi``; so it imports the standard library only.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from pytest_vastgpu.local.machine import SimulatedGpu
    from pytest_vastgpu.local.spec import ContainerFaults

FAILED_STATUS = 9
"""Exit status of ``nvidia-smi`` when it cannot reach the driver, as its manual gives it."""
SYSTEM_LDCONFIG = "/sbin/ldconfig"

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
    """Whether an instance needs tools of its own."""
    return bool(gpus or faults.nvidia_smi_fails or faults.libcuda_missing)


def install(directory: Path, gpus: tuple[SimulatedGpu, ...], faults: ContainerFaults) -> None:
    """Writes the tools that are needed; the others are the system's own."""
    if not needed(gpus, faults):
        return
    directory.mkdir(exist_ok=True)
    if gpus or faults.nvidia_smi_fails:
        described = [
            {
                "name": _product_name(gpu.name),
                "ram_mb": gpu.ram_mb,
                "driver": gpu.driver_version,
                "cuda": f"{gpu.cuda_max_good:.1f}",
                "compute_cap": f"{gpu.compute_cap:.1f}",
            }
            for gpu in gpus
        ]
        (directory / "gpus.json").write_text(json.dumps({"gpus": described, "failure": faults.nvidia_smi_fails}))
        call = shlex.join([sys.executable, "-I", "-S", __file__, str(directory / "gpus.json")])
        _program(directory / "nvidia-smi", f'#!/bin/sh\nexec {call} "$@"\n')
    if gpus or faults.libcuda_missing:
        libcuda = "" if faults.libcuda_missing else LIBCUDA
        _program(directory / "ldconfig", LDCONFIG.format(system=SYSTEM_LDCONFIG, libcuda=libcuda))


def _product_name(name: str) -> str:
    """The driver's name for what the market calls, for example, RTX 4090."""
    if name.startswith("NVIDIA"):
        return name
    return f"NVIDIA GeForce {name}" if re.match(r"[RG]TX \d{2}[5-9]0\b", name) else f"NVIDIA {name}"


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _facts(index: int, gpu: dict[str, Any], count: int) -> dict[str, tuple[str, str]]:
    """Value and unit of each query field, of an idle device."""
    used = 2
    plain = {
        "index": str(index),
        "count": str(count),
        "name": gpu["name"],
        "gpu_name": gpu["name"],
        "uuid": f"GPU-00000000-0000-4000-8000-{index:012x}",
        "serial": "[N/A]",
        "driver_version": gpu["driver"],
        "compute_cap": gpu["compute_cap"],
        "pci.bus_id": f"00000000:{index + 1:02X}:00.0",
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
        "fan.speed": "0 %",
    }
    measured = {
        "memory.total": (gpu["ram_mb"], "MiB"),
        "memory.used": (used, "MiB"),
        "memory.free": (gpu["ram_mb"] - used, "MiB"),
        "utilization.gpu": (0, "%"),
        "utilization.memory": (0, "%"),
        "power.draw": ("21.00", "W"),
        "power.limit": ("450.00", "W"),
        "clocks.sm": (210, "MHz"),
        "clocks.mem": (405, "MHz"),
        "clocks.max.sm": (3105, "MHz"),
    }
    return {name: (value, "") for name, value in plain.items()} | {
        name: (str(value), unit) for name, (value, unit) in measured.items()
    }


def _query(gpus: list[dict[str, Any]], fields: str, form: str) -> str:
    names = [field.strip() for field in fields.split(",")]
    options = form.split(",")
    with_units = "nounits" not in options
    rows = [_facts(index, gpu, len(gpus)) for index, gpu in enumerate(gpus)]
    known = _facts(0, gpus[0], 1)
    for name in names:
        if name not in known:
            raise SystemExit(f'Field "{name}" is not a valid field to query.\n')
    lines = []
    if "noheader" not in options:
        lines.append(", ".join(f"{n} [{known[n][1]}]" if known[n][1] and with_units else n for n in names))
    for row in rows:
        cells = [f"{row[n][0]} {row[n][1]}" if row[n][1] and with_units else row[n][0] for n in names]
        lines.append(", ".join(cells))
    return "\n".join(lines)


def _list(gpus: list[dict[str, Any]]) -> str:
    rows = (_facts(index, gpu, len(gpus)) for index, gpu in enumerate(gpus))
    return "\n".join(f"GPU {row['index'][0]}: {row['name'][0]} (UUID: {row['uuid'][0]})" for row in rows)


def _table(gpus: list[dict[str, Any]]) -> str:
    rule = "+" + "-" * 89 + "+"
    first = gpus[0]
    head = f"| NVIDIA-SMI {first['driver']:<22} Driver Version: {first['driver']:<14} CUDA Version: {first['cuda']}"
    lines = [rule, f"{head:<90}|", rule]
    lines.append(f"{'| GPU  Name (simulated)              Bus-Id           |    Memory-Usage | GPU-Util':<90}|")
    lines.append(rule)
    for index, gpu in enumerate(gpus):
        facts = _facts(index, gpu, len(gpus))
        used, total = facts["memory.used"][0], facts["memory.total"][0]
        memory = f"{used}MiB / {total}MiB"
        line = f"| {index:>3}  {gpu['name']:<30} {facts['pci.bus_id'][0]} | {memory:>20} |   0%"
        lines.append(f"{line:<90}|")
    lines += [rule, "", rule, f"{'| Processes:':<90}|", f"{'|  No running processes found':<90}|", rule]
    return "\n".join(lines)


def _details(gpus: list[dict[str, Any]]) -> str:
    lines = [
        "",
        "==============NVSMI LOG==============",
        "",
        f"{'Driver Version':<42}: {gpus[0]['driver']}",
        f"{'CUDA Version':<42}: {gpus[0]['cuda']}",
        f"{'Attached GPUs':<42}: {len(gpus)}",
    ]
    for index, gpu in enumerate(gpus):
        facts = _facts(index, gpu, len(gpus))
        lines += [
            f"GPU {facts['pci.bus_id'][0]}",
            f"    {'Product Name':<38}: {gpu['name']}",
            f"    {'GPU UUID':<38}: {facts['uuid'][0]}",
            "    FB Memory Usage",
            *(f"        {label:<34}: {facts[f'memory.{label.lower()}'][0]} MiB" for label in ("Total", "Used", "Free")),
            "    Utilization",
            f"        {'Gpu':<34}: 0 %",
            "    Temperature",
            f"        {'GPU Current Temp':<34}: {facts['temperature.gpu'][0]} C",
            f"    {'Processes':<38}: None",
        ]
    return "\n".join(lines)


def answer(gpus: list[dict[str, Any]], arguments: list[str]) -> str:
    """What ``nvidia-smi`` prints for these arguments.

    :raises SystemExit: With the message and exit status of a call that it does not know.
    """
    values: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        values[name] = value if equals or name not in ("-i", "--id", "-d", "--display") else next(rest, "")
    chosen = next((values[name] for name in ("-i", "--id") if name in values), "")
    numbers = [int(number) for number in chosen.split(",") if number.strip().isdigit()]
    if any(number >= len(gpus) for number in numbers):
        raise SystemExit("No devices were found")
    shown = [gpu for index, gpu in enumerate(gpus) if not numbers or index in numbers]
    form = values.get("--format", "")
    if "--query-gpu" in values:
        return _query(shown, values["--query-gpu"], form)
    if "--query-compute-apps" in values:
        return "" if "noheader" in form else ", ".join(values["--query-compute-apps"].split(","))
    if "-L" in values or "--list-gpus" in values:
        return _list(shown)
    if "-q" in values or "--query" in values:
        return _details(shown)
    unknown = [name for name in values if name not in ("-i", "--id")]
    if unknown:
        raise SystemExit(f"Invalid combination of input arguments. Please run 'nvidia-smi -h' for help. ({unknown[0]})")
    return _table(shown)


def main() -> None:
    """``nvidia-smi`` itself: the first argument names the file that describes the devices."""
    machine = json.loads(Path(sys.argv[1]).read_text())
    if machine["failure"]:
        sys.stdout.write(f"{machine['failure']}\n")
        sys.exit(FAILED_STATUS)
    text = answer(machine["gpus"], sys.argv[2:])
    sys.stdout.write(f"{text}\n" if text else "")


if __name__ == "__main__":
    main()
