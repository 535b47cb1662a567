"""What each level of strictness asks of an offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vastgpu.settings import Strictness


@dataclass(frozen=True)
class Policy:
    """The numbers of one level. All levels ask for verified machines that are free and rented on demand."""

    strictness: Strictness
    reliability: float
    """Least reliability as the market measures it, 0 to 1."""
    direct_ports: int
    """Fewest open ports: a machine that has many is set up with care."""
    inet_down_mbps: float
    """Slowest download."""
    by_record: bool
    """Rank by what is known of each machine; otherwise the cheapest comes first."""


POLICIES: Mapping[Strictness, Policy] = {
    policy.strictness: policy
    for policy in (
        Policy(Strictness.STRICT, reliability=0.995, direct_ports=16, inet_down_mbps=500, by_record=True),
        Policy(Strictness.BALANCED, reliability=0.98, direct_ports=8, inet_down_mbps=200, by_record=True),
        Policy(Strictness.AGGRESSIVE, reliability=0.95, direct_ports=4, inet_down_mbps=100, by_record=False),
    )
}
"""Strictest first."""
