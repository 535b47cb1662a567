"""Values for tests: complete, plausible, and changed where a test says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_vastgpu.model import Offer

_OFFER = Offer(
    id=1001,
    machine_id=42,
    host_id=7,
    gpu_name="RTX 4090",
    num_gpus=1,
    gpu_ram_mb=24564,
    compute_cap=8.9,
    cuda_max_good=12.8,
    driver_version="570.86.15",
    cpu_cores=16,
    cpu_ram_mb=64000,
    disk_space_gb=500,
    inet_down_mbps=900,
    inet_up_mbps=800,
    inet_down_usd_gb=0.001,
    inet_up_usd_gb=0.001,
    direct_port_count=64,
    reliability=0.998,
    verified=True,
    rentable=True,
    rented=False,
    is_bid=False,
    geolocation="Sweden, SE",
    duration_s=30 * 86400,
    price_usd_h=0.36,
    storage_usd_gb_month=0.1,
)


def make_offer(**changes: Any) -> Offer:
    return replace(_OFFER, **changes)
