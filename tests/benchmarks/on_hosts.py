"""Tests on hosts of the local market: when the first result is there, many small tests, and 64 workers.

``python -m tests.benchmarks.on_hosts``. Each run has a home and a market of its own, and hosts without an environment
to make. What the controller learns of its workers is timed there, by a conftest file of the project; what happens to
the instances has its times in ``events.jsonl``. The yardstick of the small tests is the same suite at home with
``-n 2``, in turn with ours, and both have two workers: compared are the seconds from the start of the first test to the
last result, and those of the whole run. All processes of hosts are on this machine, and share its cores: so the goal is
for tests that wait, as for a GPU. For those that wait for nothing, what is compared is the work of the processes
between, which on real hosts have cores of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks import suite

ROUNDS = 5
SMALL_TESTS = 200
SMALL_S = 0.005
"""How long each of them waits."""
FIRST_RESULT_S = 1.0
SMALL_RATIO = 1.3
HOSTS, EACH = 8, 8
_EVERY_S = 1.0
"""Between two looks at the memory."""

CONFTEST = """
import json, os, time
import pytest

class Clock:
    def __init__(self):
        self.times = {}

    def first(self, what):
        self.times.setdefault(what, time.time())

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self):
        self.first("workers' Python")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self):
        self.first("workers")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self):
        self.first("collection")
        self.times["all workers"] = time.time()
        self.times["collected"] = self.times.get("collected", 0) + 1

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.times["first test"] = min(self.times.get("first test", report.start), report.start)
            self.first("first result")
            self.times["last result"] = time.time()

    def pytest_sessionfinish(self):
        with open(os.environ["BENCHMARK_TIMES"], "w") as file:
            json.dump(self.times, file)

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Clock())
"""
TESTS = """
import hashlib
import time
import pytest

@pytest.mark.parametrize("n", range({count}))
def test_small(n):
    time.sleep({waits_s})
    assert len(hashlib.sha256(bytes(2000) * (n + 1)).hexdigest()) == 64
"""
PARTS = {
    "host checked": "checked",
    "files, setup, ready": "ready",
    "proxy and first Python": "workers' Python",
    "worker": "workers",
    "collection": "collection",
    "first result": "first result",
}
"""From the moment on that SSH lets us in: each part with what ends it."""


class Project:
    """A project with that many small tests, each of which waits so long."""

    def __init__(self, folder: Path, count: int, waits_s: float = 0.0) -> None:
        self.count = count
        self.folder = folder
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
        (folder / "test_small.py").write_text(TESTS.format(count=count, waits_s=waits_s), encoding="utf-8")
        subprocess.run(["git", "init", "-q", str(folder)], check=True)

    def run(self, *arguments: str) -> tuple[float, dict[str, float]]:
        """Run all tests; the seconds of it, and the moments."""
        with tempfile.TemporaryDirectory() as home:
            times = Path(home, "times.json")
            took = suite.run(
                self.folder,
                Path(home),
                "--vast-backend=local",
                "-pno:warnings",
                *arguments,
                passed=self.count,
                BENCHMARK_TIMES=str(times),
                VAST_GPUS="0",
            )
            return took, {**_instances(Path(home)), **json.loads(times.read_text(encoding="utf-8"))}


def _instances(home: Path) -> dict[str, float]:
    """When the first instance has got how far."""
    times: dict[str, float] = {}
    for log in home.glob(".local/state/pytest-vastgpu/runs/*/events.jsonl"):
        for line in log.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            times.setdefault(str(event["state"]), event["time"])
    return times


def rows(quick: bool) -> list[report.Row]:
    rounds, small = (1, 20) if quick else (ROUNDS, SMALL_TESTS)
    hosts, each = (2, 2) if quick else (HOSTS, EACH)
    with tempfile.TemporaryDirectory() as folder:
        return [
            *first_result(Project(Path(folder, "one"), 1), rounds),
            *small_tests(Project(Path(folder, "small"), small, SMALL_S), rounds, "small tests", SMALL_RATIO),
            *small_tests(Project(Path(folder, "empty"), small), rounds, "tests that wait for nothing"),
            *many_workers(Project(Path(folder, "many"), 10 * hosts * each), hosts, each),
        ]


def first_result(project: Project, rounds: int) -> list[report.Row]:
    """From SSH lets us in to the first result, as a whole and in parts. The round in the middle."""
    found = [project.run("--vast-hosts=1")[1] for _ in range(rounds)]
    found.sort(key=lambda each: each["first result"] - each["reachable"])
    middle = found[len(found) // 2]
    moments = [middle["reachable"], *(middle[end] for end in PARTS.values())]
    every = [each["first result"] - each["reachable"] for each in found]
    ready = [each["first result"] - each["ready"] for each in found]
    return [
        report.Row("a host: SSH lets us in → first result", statistics.median(every), facts={"all": every}),
        report.Row("a host: ready → first result", statistics.median(ready), most=FIRST_RESULT_S, facts={"all": ready}),
        *(
            report.Row(f"a host: {part}", after - before)
            for part, (before, after) in zip(PARTS, pairwise(moments), strict=True)
        ),
    ]


def small_tests(project: Project, rounds: int, kind: str, most_ratio: float | None = None) -> list[report.Row]:
    """On two hosts with a worker each, beside ``-n 2`` at home."""
    ours, home = [], []
    for _ in range(rounds):
        ours.append(project.run("--vast-hosts=2", "--vast-workers-per-host=1"))
        home.append(project.run("-n", "2"))
    what = f"{project.count} {kind} on 2 hosts"
    return [
        report.Row(
            f"{what}: start of the first → last result",
            statistics.median(_tests_s(times) for _, times in ours),
            others=statistics.median(_tests_s(times) for _, times in home),
            beside="-n 2 at home",
            most_ratio=most_ratio,
            facts={"ours": [_tests_s(each) for _, each in ours], "home": [_tests_s(each) for _, each in home]},
        ),
        report.Row(
            f"{what}: the whole run",
            statistics.median(took for took, _ in ours),
            others=statistics.median(took for took, _ in home),
            beside="-n 2 at home",
            facts={"ours": [took for took, _ in ours], "home": [took for took, _ in home]},
        ),
    ]


def _tests_s(times: Mapping[str, float]) -> float:
    return times["last result"] - times["first test"]


def many_workers(project: Project, hosts: int, each: int) -> list[report.Row]:
    """Many workers on one machine: when all of them have collected, how long it takes, and the memory for it."""
    with memory() as used:
        took, times = project.run(f"--vast-hosts={hosts}", f"--vast-workers-per-host={each}")
    what = f"{hosts * each} workers on {hosts} local hosts"
    if times["collected"] < hosts * each:
        raise report.Failed(f"{what}: only {times['collected']:.0f} of them have collected")
    return [
        report.Row(f"{what}: first host ready → all have collected", times["all workers"] - times["ready"]),
        report.Row(f"{what}: {project.count} tests, the whole run", took, facts=times),
        report.Row(f"{what}: memory of all processes at most", max(used) / 1e9, "GB"),
    ]


@contextmanager
def memory() -> Iterator[list[int]]:
    """Bytes of memory that the processes of a run use, again and again: what several share is counted once."""
    used, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(_EVERY_S):
            used.append(sum(map(_share, _descendants(os.getpid()))))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield used
    finally:
        over.set()
        thread.join()


def _descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                yield int(child)
                yield from _descendants(int(child))


def _share(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
