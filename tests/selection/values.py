"""Values that tests of the policy start from."""

from __future__ import annotations

from typing import Any

from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.settings import Strictness

NOW = 1_800_000_000.0


def offer(**changes: Any) -> Offer:
    """One that every level admits for :func:`workload`."""
    return Offer(
        **{
            "id": 1,
            "machine_id": 100,
            "host_id": 10,
            "gpu_name": "RTX 4090",
            "num_gpus": 1,
            "gpu_ram_mb": 24564,
            "compute_cap": 8.9,
            "cuda_max_good": 12.4,
            "driver_version": "550.54.15",
            "cpu_cores": 16,
            "cpu_ram_mb": 64000,
            "disk_space_gb": 200,
            "inet_down_mbps": 800,
            "inet_up_mbps": 400,
            "inet_down_usd_gb": 0.0,
            "inet_up_usd_gb": 0.0,
            "direct_port_count": 100,
            "reliability": 0.999,
            "verified": True,
            "rentable": True,
            "rented": False,
            "is_bid": False,
            "geolocation": "Sweden, SE",
            "duration_s": 864_000,
            "price_usd_h": 0.40,
            "storage_usd_gb_month": 0.1,
            **changes,
        }
    )


def workload(**changes: Any) -> Workload:
    return Workload(**{"adapter": "vllm", "model": "tiny", **changes})


def need(
    wanted: Workload | None = None, strictness: Strictness = Strictness.BALANCED, **changes: Any
) -> OfferRequirements:
    return OfferRequirements(
        **{
            "workload": wanted or workload(),
            "policy": POLICIES[strictness],
            "max_price_usd_h": 1.0,
            "excluded_countries": frozenset({"CN", "IR", "KP", "RU", "SY"}),
            "reputation": Reputation(),
            "now": NOW,
            **changes,
        }
    )
