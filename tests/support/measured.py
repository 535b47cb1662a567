"""Measurements and comparisons as a run might have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from dataclasses import is_dataclass
from dataclasses import replace
from enum import Enum
from typing import Any

from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.comparing.comparison import Round
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.gpu import GpuSeen
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.load import completions
from pytest_vastgpu.measuring.load import shell
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import Past
from pytest_vastgpu.reporting.measurements import Kept

LOAD = completions(model="org/model", concurrency=4, slo={"ttft": 0.2})


def times(middle: float, widest: float) -> tuple[float, ...]:
    """Percentiles of times with a long tail, in seconds."""
    return tuple(middle * math.exp(widest * (rank / 50 - 1) ** 3) for rank in range(101))


def measured(load: Load = LOAD, throughput: float = 123.4, *, commits: int = 0) -> Measured:
    """A measurement whose numbers follow from one of them."""
    figures = {
        "requests": Figure(10 * throughput, "", 10 * throughput, 10 * throughput),
        "throughput": Figure(throughput, "1/s", 0.97 * throughput, 1.03 * throughput, 1),
        "output_throughput": Figure(16 * throughput, "tokens/s", 15.5 * throughput, 16.5 * throughput, 1),
        "ttft_p50": Figure(0.0123, "s", 0.012, 0.0127, -1),
        "ttft_p99": Figure(0.0456, "s", 0.041, 0.058, -1),
        "e2e_p50": Figure(1.234, "s", 1.2, 1.27, -1),
        "gpu_memory_peak": Figure(8123, "MiB", 8123, 8123, -1),
        "gpu_utilisation": Figure(97, "%", 95, 99),
    }
    history = tuple(
        Past(f"{at:x}bcdef0123456789", f"2026-11-{at + 1:02}T08:00:00Z", _scaled(figures, 1 - at / 100), 40 + at)
        for at in range(commits)
    )
    kinds = {"ttft": (0.0123, 1.3), "itl": (0.0101, 0.3), "tpot": (0.011, 0.2), "e2e": (1.234, 0.4)}
    times_by_kind = {name: times(*each) for name, each in kinds.items()}
    throttled = GpuSeen(0, 8123.0, 97.0, 320.0, 1980.0, {"power cap": 0.02})
    found = Measurement(
        load,
        10.0,
        figures,
        {"HTTP 500": 3},
        times_by_kind,
        missing={"e2e_p99": "too few"},
        notes=("a piece of the stream has 2.1 tokens",),
        gpus=(throttled,),
    )
    return Measured(found, "vllm 'org/model'", "RTX 4090", 42, history=history)


def _scaled(figures: dict[str, Figure], by: float) -> dict[str, Figure]:
    return {
        name: replace(each, value=by * each.value, low=by * each.low, high=by * each.high)
        for name, each in figures.items()
    }


def judged(metric: str, finding: Finding, middle: float, half: float, gate: float = 0.05) -> Judged:
    """A metric as judged on two hosts."""
    hosts = {12: middle - half / 3, 14: middle + half / 3}
    return Judged(
        metric, gate, finding, middle, middle - half, middle + half, 0.0004, 0.021, why="", rounds=12, hosts=hosts
    )


COMPARED = Compared(
    baseline="vllm 'org/model'",
    candidate="vllm 'org/model' (other args)",
    load=LOAD,
    judged=(
        judged("throughput", Finding.REGRESSION, 0.08, 0.02),
        judged("output_throughput", Finding.IMPROVEMENT, -0.06, 0.015),
        judged("ttft_p50", Finding.NOISE, 0.004, 0.03, 0.1),
        replace(judged("e2e_p99", Finding.INCONCLUSIVE, 0.05, 0.09, 0.1), why="no value in 1 of 12 rounds"),
        Judged("goodput", 0.05, Finding.HARDWARE, 0, 0, 0, 1, 0, why="machine 14 throttled: power cap"),
    ),
    hosts=tuple(HostRounds(machine, (Round({}, {}),) * 6) for machine in (12, 14)),
    gpu="RTX 4090",
    seconds=542.0,
    usd=0.12,
    notes=("20 rounds a host on 2 hosts would settle what is open, for about 0.70 USD",),
)


def kept() -> Kept:
    """What tests of a run have kept."""
    series = [
        (f"test_speed.py::test_load[{each}]", measured(replace(LOAD, concurrency=each), 100 * each / (1 + each / 8)))
        for each in (1, 2, 4, 8, 16)
    ]
    return Kept(
        [("test_speed.py::test_speed", measured(commits=12)), *series],
        [("test_ab.py::test_no_slower", COMPARED)],
    )


def hostile(text: str) -> Kept:
    """The same records with a text of others at the end of every text, and as a further key wherever there are keys."""
    found = kept()
    return Kept(
        [(f"{test}{text}", _spoilt(record, text)) for test, record in found.measured],
        [(f"{test}{text}", _spoilt(record, text)) for test, record in found.compared],
    )


def _spoilt(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, Enum) else f"{value}{text}"
    if isinstance(value, Load):
        return shell(f"make bench{text}", concurrency=value.concurrency)
    if isinstance(value, Mapping):
        spoilt = {key: _spoilt(each, text) for key, each in value.items()}
        return {**spoilt, **{f"{key}{text}": each for key, each in spoilt.items() if isinstance(key, str)}}
    if isinstance(value, (list, tuple)):
        return tuple(_spoilt(each, text) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _spoilt(getattr(value, each.name), text) for each in fields(value)})
    return value
