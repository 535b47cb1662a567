"""A simulated GPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SimulatedGpu:
    """A GPU as an instance sees it; a fault may make it differ from the offer."""

    name: str
    ram_mb: int
    driver_version: str
    cuda_max_good: float
    """The newest CUDA version that the driver supports."""
    compute_cap: float
    """For example 8.9."""
    throttle_reasons: int = 0
    """Why its clock is held back, as NVML's bits: 0x40 is a hardware that is too hot."""
    pcie_lanes: int = 16
    """Lanes in use, of 16."""
    busy_percent: int = 0
    """How much of it a process outside the instance uses."""
    memory_gb_s: float = 0.0
    """Bandwidth of its memory, as a PyTorch that is simulated, too, measures it; 0: there is no such PyTorch."""
