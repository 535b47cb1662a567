"""What can be gated in a comparison. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.measuring.measurement import NAMES
from pytest_vastgpu.measuring.measurement import absent


def check_gates(
    gates: Mapping[str, float], better: Mapping[str, int], missing: Mapping[str, str], seen: AbstractSet[str]
) -> None:
    """Check what is gated.

    :param better: The metrics that there are; none: not known, since no host passed the GPU check.
    :param missing: Why others are not to be had.
    :param seen: All that were measured.
    :raises ConfigurationError: one line.
    """
    known = ", ".join(sorted(better))
    if not gates:
        raise ConfigurationError(f"nothing is gated: name a metric and the slowdown that counts; there are {known}")
    for metric, gate in gates.items():
        if better and metric not in better:
            neither = "neither more nor less of it is better, so it cannot be gated" if metric in seen else ""
            why = neither or f"it has no value here: {missing.get(metric) or absent(metric)}"
            why = why if metric in NAMES else "there is no metric of that name"
            raise ConfigurationError(f"{metric}={gate!r:.20}: {why}; there are {known}")
        if isinstance(gate, bool) or not isinstance(gate, (int, float)) or not 0 < gate < 1:
            raise ConfigurationError(f"{metric}={gate!r:.20}: give the slowdown that counts, such as 0.05 for 5 %")
