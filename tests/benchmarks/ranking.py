"""What it costs to filter and rank offers by what is known of their machines, and how that grows.

``python -m tests.benchmarks.ranking`` makes seeded offers of as many machines, a record of each machine and of each
operator, and does what a run does with an answer of the market: check every condition, rank what is left. The yardstick
is measured in the same run: sorting the same offers by their price, which nobody can do without.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

from pytest_vastgpu.model import HostRecord
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.selection.search import admitted
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.settings import Strictness
from tests.benchmarks import report

NOW = 1_800_000_000.0
GOAL_OFFERS = 10_000
GOAL_S = 0.05
"""For so many offers, and as many records."""
GPUS = (("RTX 3090", 24576, 8.6), ("RTX 4090", 24564, 8.9), ("A100 SXM4", 81920, 8.0), ("GTX 1060", 6144, 6.1))
PLACES = ("Sweden, SE", "Norway, NO", "Iceland, IS", "China, CN", "Texas, US", "")


def make_offer(dice: random.Random, machine: int) -> Offer:
    """Four in five offers are of the kind that is wanted; of those some fail other conditions."""
    gpu_name, gpu_ram_mb, compute_cap = dice.choices(GPUS, (4, 4, 1, 1))[0]
    return Offer(
        id=1_000_000 + machine,
        machine_id=machine,
        host_id=machine // 3,
        gpu_name=gpu_name,
        num_gpus=dice.choice((1, 1, 1, 2)),
        gpu_ram_mb=gpu_ram_mb,
        compute_cap=compute_cap,
        cuda_max_good=dice.choice((11.8, 12.4, 12.8)),
        driver_version="550.54.15",
        cpu_cores=16,
        cpu_ram_mb=64_000,
        disk_space_gb=dice.uniform(10, 500),
        inet_down_mbps=dice.uniform(50, 5000),
        inet_up_mbps=dice.uniform(50, 5000),
        inet_down_usd_gb=dice.choice((0.0, 0.002, 0.02)),
        inet_up_usd_gb=0.0,
        direct_port_count=dice.choice((1, 16, 100)),
        reliability=dice.uniform(0.97, 1.0),
        verified=dice.random() < 0.95,
        rentable=True,
        rented=False,
        is_bid=False,
        geolocation=dice.choice(PLACES),
        duration_s=dice.uniform(600, 5_000_000),
        price_usd_h=dice.uniform(0.1, 1.2),
        storage_usd_gb_month=0.1,
    )


def make_record(dice: random.Random, machine: int) -> MachineRecord:
    """One in twenty machines is banned, one in a hundred cannot run the workload."""
    return MachineRecord(
        machine,
        machine // 3,
        successes=dice.randrange(10),
        infra_failures=dice.uniform(0, 3),
        banned_until=NOW + 3600 if dice.random() < 0.05 else 0.0,
        ban_reason="nvml_driver_library_mismatch",
        ready_s=dice.uniform(60, 900),
        incompatible=frozenset({"key"}) if dice.random() < 0.01 else frozenset(),
    )


def make_need(dice: random.Random, machines: int) -> OfferRequirements:
    records = {machine: make_record(dice, machine) for machine in range(1, machines + 1)}
    hosts = {host: HostRecord(host, successes=3.0, infra_failures=1.0) for host in range(machines // 3 + 1)}
    return OfferRequirements(
        Workload("vllm", gpu_ram_gb=20, cuda=12.1, image_gb=8, model_gb=4),
        POLICIES[Strictness.BALANCED],
        max_price_usd_h=1.0,
        excluded_countries=frozenset({"CN", "IR", "KP", "RU", "SY"}),
        reputation=Reputation(records, hosts),
        now=NOW,
        workload_key="key",
    )


def median_s(action: Callable[[], object], times: int) -> float:
    """Of the processor's time, which does not depend on what else the machine does."""
    took = []
    for _ in range(times):
        began = time.process_time()
        action()
        took.append(time.process_time() - began)
    return statistics.median(took)


def measure(number: int, times: int) -> report.Row:
    dice = random.Random(number)
    offers = [make_offer(dice, machine) for machine in range(1, number + 1)]
    need = make_need(dice, number)
    took = median_s(lambda: admitted(offers, need), times)
    return report.Row(
        f"filter and rank {number:,} offers",
        took,
        others=median_s(lambda: sorted(offers, key=lambda offer: (offer.price_usd_h, offer.id)), times),
        beside="sorting by price",
        most=GOAL_S if number == GOAL_OFFERS else None,
        facts={"admitted": len(admitted(offers, need)), "seconds_each": took / number},
    )


def rows(quick: bool) -> list[report.Row]:
    return [measure(number, 1 if quick else 15) for number in ((1_000,) if quick else (1_000, GOAL_OFFERS, 100_000))]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
