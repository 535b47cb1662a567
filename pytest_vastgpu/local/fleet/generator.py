"""Generates random machines, with a long tail of bad ones as on the real market. Pure: equal seeds, equal machines."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.local.fleet.machine import Machine


@dataclass(frozen=True)
class _Kind:
    """A kind of GPU, about how common it is, and about its price an hour."""

    name: str
    weight: float
    ram_mb: int
    compute_cap: float
    usd_h: float
    tflops: float
    bandwidth: float


_KINDS = (
    _Kind("RTX 3060", 6, 12288, 8.6, 0.06, 12.7, 360),
    _Kind("RTX 3090", 16, 24576, 8.6, 0.17, 35.6, 936),
    _Kind("RTX 4090", 26, 24564, 8.9, 0.35, 82.6, 1008),
    _Kind("RTX 5090", 14, 32607, 12.0, 0.48, 104.8, 1792),
    _Kind("RTX A6000", 7, 49140, 8.6, 0.45, 38.7, 768),
    _Kind("L40S", 5, 46068, 8.9, 0.62, 91.6, 864),
    _Kind("A100 SXM4", 7, 81920, 8.0, 0.85, 19.5, 2039),
    _Kind("H100 SXM", 9, 81559, 9.0, 1.95, 66.9, 3350),
    _Kind("H200", 4, 143771, 9.0, 2.60, 66.9, 4800),
    _Kind("Tesla V100", 6, 32768, 7.0, 0.14, 15.7, 900),
)
_PLACES = (
    *(("Sweden, SE",) * 3),
    *(("California, US",) * 6),
    *(("Texas, US",) * 4),
    "Quebec, CA",
    "Germany, DE",
    "Bulgaria, BG",
    "Japan, JP",
    "South Korea, KR",
    "China, CN",
    "Vietnam, VN",
    "Norway, NO",
)
_DRIVERS = (("535.183.01", 12.2), ("550.127.05", 12.4), ("560.35.03", 12.6), ("570.86.15", 12.8), ("580.65.06", 13.0))
_COUNTS = (1, 1, 1, 1, 1, 2, 2, 4, 8)


def generate(machines: int, seed: int, first_id: int) -> list[Machine]:
    """Generate machines with consecutive ids."""
    rng = random.Random(seed)  # noqa: S311 -- a market to test with, not a secret
    kinds = rng.choices(_KINDS, weights=[kind.weight for kind in _KINDS], k=machines)
    return [_machine(kind, first_id + number, rng) for number, kind in enumerate(kinds)]


def _machine(kind: _Kind, machine_id: int, rng: random.Random) -> Machine:
    gpus = rng.choice(_COUNTS)
    driver, cuda = rng.choice(_DRIVERS)
    price = kind.usd_h * gpus * rng.lognormvariate(0, 0.35)
    datacenter = rng.random() < 0.25
    return Machine(
        machine_id=machine_id,
        # Few operators own many machines, most own one.
        host_id=int(rng.paretovariate(0.6)) % 5000 + 1,
        gpu_name=kind.name,
        num_gpus=gpus,
        gpu_ram_mb=kind.ram_mb,
        compute_cap=kind.compute_cap,
        cuda_max_good=cuda,
        driver_version=driver,
        dlperf=kind.tflops * gpus * rng.uniform(0.8, 1.1),
        total_flops=kind.tflops * gpus,
        gpu_mem_bw=kind.bandwidth,
        cpu_cores=rng.choice((8, 16, 32, 64, 128)),
        cpu_ram_mb=rng.choice((32, 64, 128, 256, 512)) * 1000,
        disk_space_gb=round(min(8000.0, rng.lognormvariate(5.8, 1.0)), 1),
        inet_down_mbps=round(min(9000.0, rng.lognormvariate(6.2, 1.0)), 1),
        inet_up_mbps=round(min(9000.0, rng.lognormvariate(5.8, 1.1)), 1),
        inet_down_usd_gb=round(rng.choice((0.0, 0.002, 0.005, 0.01, 0.02, 0.039)), 4),
        inet_up_usd_gb=round(rng.choice((0.0, 0.002, 0.005, 0.01, 0.02, 0.039)), 4),
        direct_port_count=rng.choice((0, 1, 4, 8, 16, 50, 100, 250, 1000)),
        # Most machines are good; the tail is long.
        reliability=round(max(0.5, 1 - rng.paretovariate(0.9) / 800), 6),
        verification=rng.choices(("verified", "unverified", "deverified"), weights=(70, 27, 3))[0],
        datacenter=datacenter,
        geolocation=rng.choice(_PLACES),
        price_usd_h=round(price, 4),
        min_bid_usd_h=round(price * rng.uniform(0.3, 0.8), 4),
        storage_usd_gb_month=round(rng.uniform(0.05, 0.3), 3),
        duration_s=float(round(rng.expovariate(1 / (40 * DAY_S)))),
    )
