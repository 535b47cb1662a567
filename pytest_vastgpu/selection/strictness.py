"""Defines what each strictness level requires of an offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vastgpu.settings import Strictness


@dataclass(frozen=True)
class Policy:
    """The numbers of one level. All levels require verified, free machines that are rented on demand."""

    strictness: Strictness
    reliability: float
    """Lowest reliability, as the market measures it, 0 to 1."""
    direct_ports: int
    """Fewest open ports: a machine with many open ports is usually set up with care."""
    inet_down_mbps: float
    """Slowest download."""
    by_record: bool
    """Whether offers are ranked by each machine's record; otherwise the cheapest comes first."""


POLICIES: Mapping[Strictness, Policy] = {
    policy.strictness: policy
    for policy in (
        Policy(Strictness.STRICT, reliability=0.995, direct_ports=16, inet_down_mbps=500, by_record=True),
        Policy(Strictness.BALANCED, reliability=0.98, direct_ports=8, inet_down_mbps=200, by_record=True),
        Policy(Strictness.AGGRESSIVE, reliability=0.95, direct_ports=4, inet_down_mbps=100, by_record=False),
    )
}
"""Strictest first."""
