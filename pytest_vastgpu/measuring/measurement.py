"""What a measurement has found: numbers with units and intervals. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import Load


@dataclass(frozen=True)
class Measurement:
    """One measurement of one server."""

    load: Load
    seconds: float
    figures: Mapping[str, Figure]
    """By the metric's name: ``throughput``, ``ttft_p50``, ``e2e_p99``, …"""
    errors: Mapping[str, int] = field(default_factory=dict)
    """How often a request failed, by reason."""
    quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Seconds by kind of time (``ttft``, ``e2e``, …): those that 0 %, 1 %, …, 100 % of all stay below."""

    def __getitem__(self, metric: str) -> Figure:
        return self.figures[metric]


def of(load: Load, seconds: float, seen: Sequence[Mapping[str, Any]]) -> Measurement:
    """The numbers of what the driver has seen."""
    done = [each for each in seen if not each["error"]]
    took = sorted(each["end"] - each["start"] for each in done)
    per_second = len(done) / seconds
    spread = 1.96 * math.sqrt(len(done)) / seconds
    middle = statistics.median(took)
    figures = {
        "requests": Figure(len(done), "", len(done), len(done)),
        "throughput": Figure(per_second, "1/s", per_second - spread, per_second + spread, 1),
        "e2e_p50": Figure(middle, "s", took[0], took[-1], -1),
    }
    return Measurement(load, seconds, figures, quantiles={"e2e": percentiles(took)})


def percentiles(values: Sequence[float]) -> Sequence[float]:
    """The values that 0 %, 1 %, …, 100 % of them stay below, for a picture; empty for none.

    :param values: In ascending order.
    """
    return tuple(values[round((len(values) - 1) * percent / 100)] for percent in range(101)) if values else ()
