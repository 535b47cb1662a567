"""The rows of offers, as Vast's API shows them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from pytest_vastgpu.local.fleet.machine import Machine
from pytest_vastgpu.local.market.billing import HOURS_PER_MONTH

Row = dict[str, Any]
"""One object of the API's JSON."""

DEFAULT_STORAGE_GB = 8.0
"""The disk that a search without ``allocated_storage`` is priced for, by Vast's documentation."""


def offer_row(machine: Machine, offer_id: int, now: float, *, rented: bool = False) -> Row:
    """Return the row of an offer, without the fields that depend on the requested disk; see :func:`priced`.

    :param now: Epoch seconds.
    """
    return {
        "id": offer_id,
        "ask_contract_id": offer_id,
        "bundle_id": offer_id,
        "bundled_results": None,
        **machine_row(machine),
        "duration": machine.duration_s,
        "start_date": now,
        "end_date": now + machine.duration_s,
        "rentable": machine.rentable and not rented,
        "rented": rented,
        "is_bid": False,
        "external": None,
        "vms_enabled": False,
        "resource_type": "gpu",
        "cluster_id": None,
        "avail_vol_ask_id": None,
        "avail_vol_dph": None,
        "avail_vol_size": None,
    }


def machine_row(machine: Machine) -> Row:
    """Return the fields that offers and instances share. Units as in the API: VRAM in MB, ``compute_cap`` times 100."""
    gpus = machine.num_gpus
    return {
        "machine_id": machine.machine_id,
        "host_id": machine.host_id,
        "simulated": machine.simulated,
        "num_gpus": gpus,
        "gpu_name": machine.gpu_name,
        "gpu_arch": "nvidia",
        "gpu_ram": machine.gpu_ram_mb,
        "gpu_total_ram": machine.gpu_ram_mb * gpus,
        "gpu_mem_bw": machine.gpu_mem_bw,
        "gpu_lanes": 16,
        "gpu_max_power": 450.0,
        "gpu_max_temp": 90.0,
        "gpu_display_active": False,
        "bw_nvlink": 0.0,
        "compute_cap": round(machine.compute_cap * 100),
        "cuda_max_good": machine.cuda_max_good,
        "driver_version": machine.driver_version,
        "driver_vers": driver_number(machine.driver_version),
        "cpu_name": machine.cpu_name,
        "cpu_arch": machine.cpu_arch,
        "cpu_cores": machine.cpu_cores,
        "cpu_cores_effective": machine.cpu_cores * machine.share,
        "gpu_frac": machine.share,
        "cpu_ram": machine.cpu_ram_mb,
        "cpu_ghz": machine.cpu_ghz,
        "has_avx": 1,
        "disk_space": machine.disk_space_gb,
        "disk_bw": machine.disk_bw_mbps,
        "disk_name": "nvme",
        "inet_down": machine.inet_down_mbps,
        "inet_up": machine.inet_up_mbps,
        "inet_down_cost": machine.inet_down_usd_gb,
        "inet_up_cost": machine.inet_up_usd_gb,
        "internet_down_cost_per_tb": machine.inet_down_usd_gb * 1000,
        "internet_up_cost_per_tb": machine.inet_up_usd_gb * 1000,
        "direct_port_count": machine.direct_port_count,
        "static_ip": True,
        "public_ipaddr": "127.0.0.1",
        "storage_cost": machine.storage_usd_gb_month,
        "min_bid": machine.min_bid_usd_h,
        "reliability": machine.reliability,
        "reliability2": machine.reliability,
        "expected_reliability": machine.reliability,
        "verification": machine.verification,
        "verified": machine.verification == "verified",
        "vericode": int(machine.verification == "verified"),
        "hosting_type": int(machine.datacenter),
        "datacenter": machine.datacenter,
        "geolocation": machine.geolocation,
        "geolocode": 0,
        "dlperf": machine.dlperf,
        "total_flops": machine.total_flops,
        "pci_gen": 4.0,
        "pcie_bw": machine.pcie_bw,
        "mobo_name": "",
        "os_version": "22.04",
        "dph_base": machine.price_usd_h,
    }


def only(row: Row, columns: Collection[str]) -> Row:
    """Select columns of a row: a missing one is null, ``*`` selects all."""
    return row if "*" in columns else {column: row.get(column) for column in columns}


def overlaid(row: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Replace fields of a row.

    :param fields: Values in JSON, or plain texts; ``missing`` removes a field.
    """
    changed = dict(row)
    for field, value in fields.items():
        if value == "missing":
            changed.pop(field, None)
            continue
        try:
            changed[field] = json.loads(value)
        except ValueError:
            changed[field] = value
    return changed


def total_usd_h(row: Row, storage_gb: float, *, bid: bool) -> float:
    """Compute ``dph_total``: USD an hour with a disk."""
    gpu_usd_h: float = row["min_bid"] if bid else row["dph_base"]
    storage_usd_h: float = row["storage_cost"] * storage_gb / HOURS_PER_MONTH
    return gpu_usd_h + storage_usd_h


def per_usd(row: Row, field: str, total_usd_h: float) -> float:
    """Compute a field of :data:`PER_USD`; 0 if the offer is free."""
    figure: float = row[PER_USD[field]]
    return figure / total_usd_h if total_usd_h else 0.0


def priced(row: Row, storage_gb: float, *, bid: bool) -> Row:
    """Add the fields that depend on the requested disk."""
    total = total_usd_h(row, storage_gb, bid=bid)
    storage = row["storage_cost"] * storage_gb / HOURS_PER_MONTH
    hourly = {
        "gpuCostPerHour": total - storage,
        "diskHour": storage,
        "totalHour": total,
        "discountTotalHour": 0.0,
        "discountedTotalPerHour": total,
    }
    return {
        **row,
        "is_bid": bid,
        "dph_base": total - storage,
        "dph_total": total,
        "dph_total_adj": total,
        "discounted_dph_total": total,
        "discounted_hourly": 0.0,
        "storage_total_cost": storage,
        "search": hourly,
        "instance": hourly,
        **{field: per_usd(row, field, total) for field in PER_USD},
    }


PER_USD = {"dlperf_per_dphtotal": "dlperf", "flops_per_dphtotal": "total_flops", "score": "dlperf"}
"""The fields that are another field of the offer divided by its ``dph_total``, and that other field."""


def driver_number(version: str) -> int:
    """Convert a driver version to the number in searches: ``550.54.15`` is 550054015; 0 if it is not a version."""
    parts = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    if parts is None:
        return 0
    major, minor, patch = (int(part or 0) for part in parts.groups())
    return major * 1_000_000 + minor * 1000 + patch


def country_code(geolocation: str) -> str:
    """Return ``SE`` of ``Sweden, SE``; empty if there is no country code."""
    found = re.search(r"(?:^|,)\s*([A-Z]{2})\s*$", geolocation)
    return found.group(1) if found else ""
