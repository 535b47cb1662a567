"""How much a comparison measures, how long that takes, and what it may cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict
from typing import Unpack

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.measuring.load import LONGEST_S

PAIR = (("A", "A"), ("B", "BB"), ("A", "A"), ("B", "B"), ("A", "AA"), ("B", "B"))
"""Two blocks: A B B A, and B A A B. What changes steadily on a host meets both sides alike, and so does what only the
first window after a start of a server shows: of each side three in four. A is the baseline."""
LONE = (("A", "A"), ("B", "B"), ("B", "B"), ("A", "A"))
"""One block more: there each window is the first after a start, or A would have two of them and B one."""
END_S = 60
"""Of a host's life, to give it back in time."""
_LEAST = {"rounds": 2, "hosts": 1, "blocks": 1}
_MOST = {"hosts": 2, "seconds": LONGEST_S}


class Budget(TypedDict, total=False):
    """How ``vast_compare`` measures, and how much: see the fields of :class:`ComparisonPlan`; it has the defaults."""

    rounds: int
    hosts: int
    blocks: int
    seconds: float
    minutes: float
    together: bool


@dataclass(frozen=True)
class ComparisonPlan:
    """What is measured on each host, and its limits."""

    rounds: int = 6
    """On each host. A round starts both sides afresh, and counts as one observation."""
    hosts: int = 2
    """Most hosts, 1 or 2. The second one is rented only where a slowdown is suspected."""
    blocks: int = 2
    """Blocks of four windows in a round, in turn A B B A and B A A B."""
    seconds: float = 10.0
    """Length of a window, without the load's warm-up; an hour at most."""
    minutes: float = 60.0
    """Most time on one host, once it is ready: no round is begun that might not be over by then."""
    together: bool = False
    """Whether the servers of both sides run at a time, each with part of the memory, and take turns under load."""

    def __post_init__(self) -> None:
        amounts = dict(vars(self))
        if not isinstance(amounts.pop("together"), bool):
            raise ConfigurationError(f"vast_compare(together={self.together!r:.40}): give True or False")
        for name, value in amounts.items():
            whole = name in _LEAST
            kind, least = ("a whole number", _LEAST[name] - 1) if whole else ("a number", 0)
            usable = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not usable or not math.isfinite(value) or value <= least:
                above = f"of at least {least + 1}" if whole else "above 0"
                raise ConfigurationError(f"vast_compare({name}={value!r:.40}): give {kind} {above}")
            if value > _MOST.get(name, math.inf):
                raise ConfigurationError(f"vast_compare({name}={value!r:.40}): give {_MOST[name]} at most")

    @property
    def windows(self) -> str:
        """The sides of a round's windows, in order: ``ABBABAAB``."""
        return "".join(windows for _, windows in self.starts)

    @property
    def starts(self) -> Sequence[tuple[str, str]]:
        """The starts of servers in a round: of which sides, and the sides of the windows that are measured then.

        One server runs at a time, so that each has all of the GPU's memory, unless both are to run together.
        """
        alone = PAIR * (self.blocks // 2) + LONE * (self.blocks % 2)
        return [("AB", "".join(windows for _, windows in alone))] if self.together else alone

    def load_s(self, warmup_s: float) -> float:
        """Seconds of load on one host."""
        return self.rounds * len(self.windows) * (self.seconds + warmup_s)

    def announcement(self, warmup_s: float, limit_s: float, usd_h: float, most_usd: float) -> str:
        """What a comparison will take, in a sentence.

        A host is rented with the baseline's server, which is not measured: what it finds on the host is another thing
        than what all later ones find.

        :param limit_s: Most seconds of rounds on one host.
        :param usd_h: Most that a host may cost.
        :param most_usd: Most that all hosts together may cost, from their creation to their end.
        """
        order = " ".join(self.windows[:8]) + (" …" if len(self.windows) > 8 else "")
        servers = sum(len(sides) for sides, _ in self.starts)
        both = ", both servers at a time, each with part of the memory" if self.together else ""
        more = "a second host only where a slowdown is suspected; " if self.hosts > 1 else ""
        return (
            f"{self.rounds} rounds of {len(self.windows)} windows of {self.seconds:g} s ({order}): "
            f"{spoken(self.load_s(warmup_s))} of load and {self.rounds * servers + 1} starts of a server on a "
            f"host{both}, at most {spoken(limit_s)} and {usd_h * limit_s / HOUR_S:.2f} USD once it is ready; {more}"
            f"all hosts together, with the time until they are ready, at most {most_usd:.2f} USD"
        )


def planned(**budget: Unpack[Budget]) -> ComparisonPlan:
    """The plan with what was asked for.

    :raises ConfigurationError: one line: for a value that is none, and for a name that there is not.
    """
    known = Budget.__annotations__
    for name in budget:
        if name not in known:
            raise ConfigurationError(
                f"vast_compare({name:.40}=…): it takes baseline, candidate and load, and {', '.join(known)}"
            )
    return ComparisonPlan(**budget)


def check_time(plan: ComparisonPlan, warmup_s: float, life_s: float) -> None:
    """Check that the limits leave time for the two rounds that are the least that says anything.

    :param life_s: Seconds of a host's whole life.
    :raises ConfigurationError: one line: they do not.
    """
    least_s = 2 * len(plan.windows) * (plan.seconds + warmup_s)
    limits = {f"minutes={plan.minutes:g}": plan.minutes * 60, f"--vast-max-lifetime={life_s:g}": life_s - END_S}
    limit, most_s = min(limits.items(), key=lambda each: each[1])
    if least_s > most_s:
        raise ConfigurationError(
            f"vast_compare: two rounds are {spoken(least_s)} of load alone, and {limit} is the limit: raise it, or "
            "have fewer blocks= or seconds="
        )


def limit_s(plan: ComparisonPlan, life_s: float) -> float:
    """Most seconds of rounds on a host: what the plan allows, and its life.

    :param life_s: Seconds until the host is given back whatever happens.
    """
    return max(0.0, min(plan.minutes * 60, life_s - END_S))


def about(seconds: float, usd_h: float) -> str:
    """What is to come, in no more digits than can be known: ``about 14 min and 0.05 USD``."""
    step_s = next(step for step, most in ((1, 60), (10, 600), (60, 2 * HOUR_S), (300, math.inf)) if seconds < most)
    usd = usd_h * seconds / HOUR_S
    return (
        f"about {spoken(step_s * round(seconds / step_s))} and {f'{usd:.2f}' if usd >= 0.005 else 'less than 0.01'} USD"
    )
