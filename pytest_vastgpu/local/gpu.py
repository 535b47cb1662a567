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
