"""The properties of a machine, and those of the machine that the market runs on."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.hostcheck import cgroups
from pytest_vastgpu.local.gpu import SimulatedGpu

_MB = 1_000_000
_GB = 1_000_000_000
LEAST_CORES = 32
LEAST_RAM_MB = 65_536
"""Other clients of the market pass over machines with fewer cores or less RAM."""


@dataclass(frozen=True)
class Machine:
    """The properties that an offer shows. The defaults are those of a good machine with one GPU, which other clients of
    the market admit by default, too: from 32 cores, 64 GiB, CUDA 13 and 1000 Mbit/s on.
    """

    machine_id: int
    host_id: int
    gpu_name: str = "RTX 4090"
    num_gpus: int = 1
    gpu_ram_mb: int = 24564
    """For each GPU."""
    compute_cap: float = 8.9
    cuda_max_good: float = 13.0
    driver_version: str = "580.65.06"
    dlperf: float = 80.0
    """Vast's own benchmark; larger is faster."""
    total_flops: float = 82.0
    """TFLOPS of all GPUs."""
    gpu_mem_bw: float = 880.0
    """GB/s."""
    pcie_bw: float = 24.0
    """GB/s."""
    cpu_name: str = "AMD EPYC 7543"
    cpu_cores: int = LEAST_CORES
    """Of the whole machine, like ``cpu_ram_mb``."""
    cpu_ghz: float = 3.0
    cpu_arch: str = "amd64"
    cpu_ram_mb: int = 128_000
    share: float = 1.0
    """The share of the machine that an offer has: of its cores, its RAM and its GPUs."""
    disk_space_gb: float = 500.0
    disk_bw_mbps: float = 3000.0
    """MB/s."""
    inet_down_mbps: float = 2000.0
    """Mbit/s, like ``inet_up_mbps``."""
    inet_up_mbps: float = 2000.0
    inet_down_usd_gb: float = 0.0
    inet_up_usd_gb: float = 0.0
    direct_port_count: int = 250
    reliability: float = 0.999
    verification: str = "verified"
    """``verified``, ``unverified`` or ``deverified``."""
    datacenter: bool = False
    geolocation: str = "Sweden, SE"
    price_usd_h: float = 0.30
    """USD per hour of all GPUs, without storage."""
    min_bid_usd_h: float = 0.15
    storage_usd_gb_month: float = 0.10
    duration_s: float = 30 * DAY_S
    """The time until the offer ends."""
    slots: int = 1
    """The number of instances that it can run at once; they share its devices."""
    rentable: bool = True
    network: bool = False
    """Whether its instances can reach more than the market."""
    simulated: bool = True
    """False only for the machine that the market runs on."""

    @property
    def gpus(self) -> tuple[SimulatedGpu, ...]:
        """The GPUs that the offer shows; empty if instances use the real devices."""
        if not self.simulated:
            return ()
        gpu = SimulatedGpu(self.gpu_name, self.gpu_ram_mb, self.driver_version, self.cuda_max_good, self.compute_cap)
        return (gpu,) * self.num_gpus


THIS_MACHINE_ID = 1
"""The machine id and host id of the machine that the market runs on."""

_OWN_PRICE_USD_H = 0.10
"""Play money: high enough to show in a bill, below every price limit."""

_OWN_SLOTS = 64


def this_machine(disk: Path) -> Machine:
    """Describe the machine that the market runs on, so that the strictest policy admits it.

    :param disk: The directory with the disks of instances.
    """
    gpus = _nvidia_smi("name,memory.total,driver_version,compute_cap")
    name, ram_mb, driver, compute_cap = gpus[0] if gpus else ("", "0", "", "0")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MB
    limits = subprocess.run(["sh", "-c", cgroups.SCRIPT], capture_output=True, text=True, check=False).stdout
    cores = max(1, min(cores, round(cgroups.cores(limits) or cores)))
    memory_mb = min(memory_mb, round(cgroups.memory_mb(limits) or memory_mb))
    # A small machine is offered for what it is, as the share of a larger one.
    share = min(1.0, cores / LEAST_CORES, memory_mb / LEAST_RAM_MB)
    return Machine(
        machine_id=THIS_MACHINE_ID,
        host_id=THIS_MACHINE_ID,
        gpu_name=name.removeprefix("NVIDIA ").removeprefix("GeForce "),
        num_gpus=len(gpus),
        gpu_ram_mb=int(_figure(ram_mb)),
        compute_cap=_figure(compute_cap),
        cuda_max_good=_cuda_of_driver() if gpus else 0.0,
        driver_version=driver,
        dlperf=0.0,
        total_flops=0.0,
        gpu_mem_bw=0.0,
        pcie_bw=0.0,
        cpu_name=platform.processor() or platform.machine(),
        cpu_cores=round(cores / share),
        cpu_ghz=0.0,
        cpu_arch={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        cpu_ram_mb=math.ceil(memory_mb / share),
        share=share,
        disk_space_gb=shutil.disk_usage(disk).free // _GB,
        inet_down_mbps=10_000.0,
        inet_up_mbps=10_000.0,
        direct_port_count=1000,
        reliability=1.0,
        geolocation="This machine",
        price_usd_h=_OWN_PRICE_USD_H,
        min_bid_usd_h=_OWN_PRICE_USD_H / 2,
        storage_usd_gb_month=0.0,
        duration_s=365 * DAY_S,
        slots=_OWN_SLOTS,
        network=True,
        simulated=False,
    )


def gpus_here() -> int:
    """How many GPUs this machine has, as ``nvidia-smi`` lists them."""
    return len(_nvidia_smi("index"))


def _nvidia_smi(fields: str) -> list[list[str]]:
    """Query each GPU; empty if there is no ``nvidia-smi`` or it fails."""
    answer = _run_nvidia_smi(f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    return [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]


def _cuda_of_driver() -> float:
    """Read the CUDA version in the header of ``nvidia-smi``, for which there is no query field; 0 if it is missing."""
    # Since driver 610 the header says "CUDA UMD Version".
    found = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", _run_nvidia_smi())
    return float(found.group(1)) if found else 0.0


def _run_nvidia_smi(*arguments: str) -> str:
    """Return the output of ``nvidia-smi``; empty if it does not exist or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        answer = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _figure(cell: str) -> float:
    """Parse a number; 0 for ``[N/A]``, such as the memory of a GPU that shares the machine's."""
    try:
        return float(cell)
    except ValueError:
        return 0.0
