"""What recording one outcome in the host cache costs while many processes do, beside rewriting the file for each.

``python -m tests.benchmarks.host_cache`` makes a cache of 10,000 machines and starts 64 processes that record: each
about ten times a second (far more than any test run does), the same while a person's command rewrites the file again
and again, and as fast as they can. Then it checks that no record is missing. The yardstick is measured in the same run:
one dump of the same content with PyYAML's C dumper, by one process before the others start.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from multiprocessing.synchronize import Event
from pathlib import Path

import yaml

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.writer import record_text
from tests.benchmarks import report
from tests.benchmarks.report import percentile

GOAL_RATIO = 1 / 20
WAIT_S = 300.0
"""Until all are there; more only where one of them has died."""


def evidence(machine: int, name: str) -> Outcome:
    return Outcome(
        id=name,
        time=round(time.time(), 3),
        machine_id=machine,
        outcome=FailureClass.INFRA_FATAL if machine % 7 == 0 else FailureClass.READY,
        host_id=machine // 3 + 1,
        gpu_name="RTX 4090",
        reason="driver_library_mismatch" if machine % 7 == 0 else "",
        workload="vllm org/model 3fa94c02",
        seconds={"created": 1.5, "booting": 31.2, "reachable": 2.1, "checked": 0.6, "warming": 54.3},
        run_id="bench",
    )


def fill(path: Path, machines: int) -> HostCache:
    """A cache that knows as many machines, compacted."""
    cache = HostCache(path)
    cache.record(evidence(1, "seed-1"))
    other = path.with_name("other.yaml")
    header = path.read_bytes()
    with other.open("wb") as file:
        file.write(header)
        for machine in range(2, machines + 1):
            file.write(record_text(VAST, evidence(machine, f"seed-{machine}")))
    cache.merge([other])
    other.unlink()
    return cache


def rewrite_s(path: Path) -> float:
    """Seconds that one dump of the cache's whole content takes with PyYAML's C dumper."""
    text = path.read_text(encoding="utf-8")
    content = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    start = time.perf_counter()
    yaml.dump_all(content, Dumper=yaml.CSafeDumper)
    return time.perf_counter() - start


def write(
    path: Path, number: int, records: int, machines: int, pause_s: float, barrier: Barrier, results: Path
) -> None:
    """One writing process; its pauses are random around ``pause_s`` with a fixed seed."""
    pauses = random.Random(number)
    cache = HostCache(path)
    took = []
    barrier.wait(WAIT_S)
    for turn in range(records):
        item = evidence((number * 7919 + turn) % machines + 1, f"w{number}-{turn}")
        time.sleep(2 * pause_s * pauses.random())
        start = time.perf_counter()
        cache.record(item)
        took.append(time.perf_counter() - start)
    results.joinpath(f"{number}.json").write_text(json.dumps(took), encoding="utf-8")


def rewrite(path: Path, barrier: Barrier, stop: Event, results: Path) -> None:
    """A person who bans a machine again and again."""
    cache = HostCache(path)
    took = []
    barrier.wait(WAIT_S)
    while not stop.is_set():
        start = time.perf_counter()
        cache.ban(1, until=math.inf, since=time.time())
        took.append(time.perf_counter() - start)
    results.joinpath("rewrites.json").write_text(json.dumps(took), encoding="utf-8")


def measure(
    directory: Path, machines: int, processes: int, records: int, pause_s: float, rewriting: bool
) -> tuple[float, float, int, dict[str, float]]:
    """The 99th percentile of one record, one dump of the whole file, how many records were lost, and more numbers."""
    cache = fill(directory / "hosts.yaml", machines)
    yardstick = statistics.median(rewrite_s(cache.path) for _ in range(3))
    start = multiprocessing.get_context("spawn")
    barrier = start.Barrier(processes + rewriting)
    stop = start.Event()
    results = directory / "results"
    results.mkdir()
    workers = [
        start.Process(target=write, args=(cache.path, number, records, machines, pause_s, barrier, results))
        for number in range(processes)
    ]
    person = start.Process(target=rewrite, args=(cache.path, barrier, stop, results))
    everybody = [*workers, person] if rewriting else workers
    try:
        for process in everybody:
            process.start()
        for process in workers:
            process.join(600)
        stop.set()
        if rewriting:
            person.join(60)
    finally:
        for process in everybody:
            process.kill()
            process.join()
    took = [json.loads((results / f"{number}.json").read_text()) for number in range(processes)]
    each = [value for values in took for value in values]
    found = cache.book().evidence
    lost = sum(f"w{number}-{turn}" not in found for number in range(processes) for turn in range(records))
    rewrites = json.loads((results / "rewrites.json").read_text()) if rewriting else []
    more = {
        "records": processes * records,
        "rewrites_meanwhile": len(rewrites),
        "rewrite_longest_s": max(rewrites, default=0.0),
        "record_median_s": statistics.median(each),
        "record_longest_s": max(each),
        "slowest_writer_total_s": max(math.fsum(values) for values in took),
        "quickest_writer_total_s": min(math.fsum(values) for values in took),
    }
    return percentile(each, 0.99), yardstick, lost, more


def rows(quick: bool) -> list[report.Row]:
    machines, processes, records = (100, 2, 5) if quick else (10_000, 64, 50)
    found = []
    for name, pause_s, rewriting in (
        ("ten a second from each", 0.1, False),
        ("the same while the file is rewritten", 0.1, True),
        ("as fast as they can", 0.0, False),
    ):
        with tempfile.TemporaryDirectory() as directory:
            p99, dump, lost, more = measure(Path(directory), machines, processes, records, pause_s, rewriting)
        what = f"{processes} processes record, {name}"
        found += [
            report.Row(f"{what}: p99", p99, others=dump, beside="PyYAML dump", most_ratio=GOAL_RATIO, facts=more),
            report.Row(f"{what}: records lost", lost, "", most=0),
        ]
    return found


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
