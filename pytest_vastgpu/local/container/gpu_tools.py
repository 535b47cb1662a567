"""Installs ``nvidia-smi`` and ``ldconfig`` for an instance with simulated GPUs or GPU faults.

They lie in a directory that comes first in the instance's ``PATH``.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.local.container import simulated_gpus

if TYPE_CHECKING:
    from pytest_vastgpu.local.container.spec import ContainerFaults
    from pytest_vastgpu.local.gpu import SimulatedGpu

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
SIMULATED_TORCH = Path(__file__).with_name("simulated_torch.py")
"""Never imported here: whoever imports it uses a GPU, and notes that in his home directory."""
LIBCUDA = "printf '\\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1\\n'"
PYTHON = """\
#!/bin/sh
# Has Python find the simulated PyTorch of this instance's GPUs.
PYTHONPATH={here}${{PYTHONPATH:+:$PYTHONPATH}} exec {python} "$@"
"""


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
                "reasons": gpu.throttle_reasons,
                "lanes": gpu.pcie_lanes,
                "busy": gpu.busy_percent,
                "memory_gb_s": gpu.memory_gb_s,
            }
            for gpu in gpus
        ]
        machine, own, python = directory / "gpus.json", directory / "nvidia_smi.py", Path(sys.executable).resolve()
        machine.write_text(json.dumps({"gpus": described, "failure": faults.nvidia_smi_fails}))
        shutil.copy(simulated_gpus.__file__, own)  # the instance may not see the package, or its venv
        call = shlex.join([str(python), "-I", "-S", str(own), str(machine)])
        _program(directory / "nvidia-smi", f'#!/bin/sh\nexec {call} "$@"\n')
        if any(gpu.memory_gb_s for gpu in gpus):
            shutil.copy(SIMULATED_TORCH, directory / "torch.py")
            _program(directory / "python3", PYTHON.format(here=directory, python=python))
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
