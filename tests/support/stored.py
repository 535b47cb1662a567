"""Measurements that were stored as baselines."""

from __future__ import annotations

from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.files import Stored
from pytest_vastgpu.measuring.baselines.history import against
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import completions

LOAD = completions(model="org/model", concurrency=4)


def figures(slower: float = 1.0, metrics: int = 2) -> dict[str, Figure]:
    """Of a server that takes that many times as long, without doubt."""
    times = [f"time{number}_p50" for number in range(metrics - 1)]
    found = {"throughput": Figure(10 / slower, "1/s", 10 / slower, 10 / slower, 1)}
    return found | {name: Figure(0.1 * slower, "s", 0.1 * slower, 0.1 * slower, -1) for name in times}


def entry(slower: float = 1.0, machine: str = "1", metrics: int = 2) -> Entry:
    workload = {"adapter": "vllm", "args": ["--seed", "1"]}
    return Entry("test_it.py::test_it", workload, LOAD, "RTX 4090", machine, figures(slower, metrics), seconds=10.0)


def stored(what: Entry, day: int = 1, commit: str = "", name: str = "main") -> Stored:
    return Stored(what, name, f"2026-11-{day:02}T10:00:00+00:00", commit)


def suspected(now: Entry, kept: list[Stored]) -> list[str]:
    return [change.metric for change in against(now, "main", kept).changes if change.p < 0.1]
