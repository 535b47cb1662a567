"""What the local market costs: its start, a search over 10,000 offers, and 64 instances at once.

``python -m tests.benchmarks.local_market`` measures each beside a yardstick of the same run, so that the ratio means
the same on a slow machine as on a fast one: the market's start beside that of a Python that imports what it imports;
the search beside making JSON of its own answer; 64 instances beside one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from pytest_vastgpu.local.container.processes import descendants
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.fleet.fleet import parse_fleet
from pytest_vastgpu.local.market.listings import Listings
from pytest_vastgpu.local.market.query import evaluate
from pytest_vastgpu.local.market.query import parse_query
from tests.benchmarks import report

IMPORTS = "import asyncio, httpx, starlette.applications, uvicorn, yaml, filelock"
QUERY = {
    "verified": {"eq": True},
    "external": {"eq": False},
    "reliability": {"gt": "0.99"},
    "num_gpus": {"eq": "1"},
    "gpu_ram": {"gte": 20000.0},
    "cuda_max_good": {"gte": "12.1"},
    "order": [["dph_total", "asc"], ["score", "desc"]],
    "allocated_storage": 20.0,
}
GOALS = {"start": 3.0, "search": 25.0, "instances": 64.0}
"""The ratios that must not be exceeded."""


def median_s(action: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter) -> float:
    took = []
    for _ in range(times):
        began = clock()
        action()
        took.append(clock() - began)
    return statistics.median(took)


def start(times: int) -> tuple[float, float]:
    """Seconds until a market can be asked, and until a Python with its imports has ended."""
    took = []
    for _ in range(times):
        market = LocalMarket()
        began = time.perf_counter()
        market.start()
        took.append(time.perf_counter() - began)
        market.stop()
    python = median_s(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True), times)
    return statistics.median(took), python


def search(machines: int, times: int) -> tuple[float, float]:
    """Seconds of processor time of a search, and of making JSON of what it found."""
    listings = Listings(parse_fleet(f"generate: {machines}").hosts, time.time())
    query = parse_query(QUERY, 64)
    rows = evaluate(query, listings.rows())
    assert rows, "a search that finds nothing measures nothing"
    searching = median_s(lambda: evaluate(query, listings.rows()), times, time.process_time)
    return searching, median_s(lambda: json.dumps(rows), times, time.process_time)


def up_and_down(number: int) -> float:
    """Seconds until so many instances run, and are gone again without a leftover."""
    fleet = {"market": {"rate_limits": False}, "machines": [{"machine_id": 1, "slots": number}]}
    with (
        tempfile.TemporaryDirectory() as state,
        LocalMarket(fleet, state_dir=Path(state)) as market,
        httpx.Client(
            base_url=market.url, headers={"Authorization": f"Bearer {market.api_key}"}, trust_env=False, timeout=120
        ) as http,
    ):
        [offer] = http.post("/api/v0/bundles/", json={}).json()["offers"]
        before = set(descendants(market.pid))
        began = time.perf_counter()
        body = {"image": "any", "runtype": "ssh_direct"}
        ids = [http.put(f"/api/v0/asks/{offer['id']}/", json=body).json()["new_contract"] for _ in range(number)]
        while running(market.status()) < number:
            time.sleep(0.02)
        http.request("DELETE", "/api/v0/instances/", json={"instance_ids": ids}).raise_for_status()
        took = time.perf_counter() - began
        assert market.status()["alive"] == [], "an instance was left"
        assert set(descendants(market.pid)) <= before, "a process was left"
        assert list(Path(state, "instances").iterdir()) == [], "a disk was left"
    return took


def running(status: dict[str, Any]) -> int:
    return sum(each["actual_status"] == "running" for each in status["alive"])


def rows(quick: bool) -> list[report.Row]:
    machines, instances, times = (100, 2, 1) if quick else (10_000, 64, 5)
    started, python = start(times)
    found, dumped = search(machines, times * 4)
    many, one = up_and_down(instances), up_and_down(1)
    return [
        report.Row("local market: start", started, others=python, beside="its imports", most_ratio=GOALS["start"]),
        report.Row(
            f"local market: a search over {machines:,} offers",
            found,
            others=dumped,
            beside="its answer's JSON",
            most_ratio=GOALS["search"],
        ),
        report.Row(
            f"local market: {instances} instances up and down",
            many,
            others=one,
            beside="one",
            most_ratio=GOALS["instances"],
        ),
    ]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
