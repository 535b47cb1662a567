"""How much a comparison measures, how long that takes, and what it may cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.errors import ConfigurationError

BLOCK = "ABBA"
"""The sides of a block's windows: what changes steadily on a host meets both alike. A is the baseline."""
_LEAST = {"rounds": 2, "hosts": 1, "blocks": 1}


@dataclass(frozen=True)
class ComparisonPlan:
    """What is measured on each host, and its limits."""

    rounds: int = 6
    """On each host. A round starts both sides afresh, and counts as one observation."""
    hosts: int = 2
    """Most hosts. The second one is rented only where a slowdown is suspected."""
    blocks: int = 2
    """A B B A blocks in a round."""
    seconds: float = 10.0
    """Length of a window, without the load's warm-up."""
    minutes: float = 60.0
    """Most time on one host, once it is ready: no round is begun that might not be over by then."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            whole = each.name in _LEAST
            kind, least = ("a whole number", _LEAST[each.name] - 1) if whole else ("a number", 0)
            usable = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not usable or not math.isfinite(value) or value <= least:
                above = f"of at least {least + 1}" if whole else "above 0"
                raise ConfigurationError(f"vast_compare({each.name}={value!r:.40}): give {kind} {above}")

    @property
    def windows(self) -> str:
        """The sides of a round's windows, in order: ``ABBAABBA``."""
        return BLOCK * self.blocks

    @property
    def starts(self) -> Sequence[tuple[str, int]]:
        """The starts of servers in a round: of which side, and how many windows it is measured in.

        One server runs at a time, so that each has all of the GPU's memory.
        """
        found: list[tuple[str, int]] = []
        for side in self.windows:
            if found and found[-1][0] == side:
                found[-1] = (side, found[-1][1] + 1)
            else:
                found.append((side, 1))
        return found

    def load_s(self, warmup_s: float) -> float:
        """Seconds of load on one host."""
        return self.rounds * len(self.windows) * (self.seconds + warmup_s)

    def told(self, warmup_s: float, limit_s: float, usd_h: float) -> str:
        """What a comparison will take, in a sentence.

        :param limit_s: Most seconds on one host.
        :param usd_h: Most that a host may cost.
        """
        blocks = "A B B A block" if self.blocks == 1 else f"{self.blocks} A B B A blocks"
        more = "; a second one only where a slowdown is suspected" if self.hosts > 1 else ""
        return (
            f"{self.rounds} rounds of {blocks} of {self.seconds:g} s windows: {spoken(self.load_s(warmup_s))} of load "
            f"and {self.rounds * len(self.starts)} starts of a server on a host, at most {spoken(limit_s)} and "
            f"{usd_h * limit_s / HOUR_S:.2f} USD once it is ready{more}"
        )


def check_time(plan: ComparisonPlan, warmup_s: float) -> None:
    """Check that the limit leaves time for the two rounds that are the least that says anything.

    :raises ConfigurationError: one line: it does not.
    """
    least_s = 2 * len(plan.windows) * (plan.seconds + warmup_s)
    if least_s > plan.minutes * 60:
        raise ConfigurationError(
            f"vast_compare: two rounds are {spoken(least_s)} of load alone, and minutes={plan.minutes:g} is the limit: "
            "raise it, or have fewer blocks= or seconds="
        )


def limit_s(plan: ComparisonPlan, life_s: float) -> float:
    """Most seconds of rounds on a host: what the plan allows, and its life.

    :param life_s: Seconds until the host is given back whatever happens.
    """
    return max(0.0, min(plan.minutes * 60, life_s - 60))
