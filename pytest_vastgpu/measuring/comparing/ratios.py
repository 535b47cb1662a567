"""How far two sides of a metric differ, as logarithms, and how sure that is. Pure.

Logarithms make a slowdown the same on a quick host and on a slow one. A round is one observation: its windows share the
start of their servers, and are not independent.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from pytest_vastgpu.measuring.comparing import student

STEADIEST = 0.001
"""No host repeats a round more exactly, whatever two or three rounds say: standard deviation of a ratio's logarithm."""

DIFFERENT_SHARE = 0.01
DIFFERENT_P = 0.01
"""Where a larger share of one side's requests fails than of the other's, by more than the former, and by chance only
with a probability below the latter, the sides do not do the same work."""


@dataclass(frozen=True)
class Estimate:
    """A mean, and how sure it is."""

    mean: float
    error: float
    """Standard error of the mean."""
    df: float
    """Degrees of freedom of the error."""

    @classmethod
    def of(cls, hosts: Iterable[Sequence[float]]) -> Estimate:
        """Of each host's rounds, two at least. Hosts count alike, and one may be noisier than another (Welch)."""
        means, squares, shares = [], 0.0, 0.0
        for rounds in hosts:
            mean = statistics.fmean(rounds)
            means.append(mean)
            variance = sum((each - mean) ** 2 for each in rounds) / (len(rounds) - 1)
            square = max(variance, STEADIEST**2) / len(rounds)
            squares += square
            shares += square**2 / (len(rounds) - 1)
        return cls(statistics.fmean(means), math.sqrt(squares) / len(means), squares**2 / shares)

    def above(self, truth: float) -> float:
        """One-sided p-value: how likely a mean as high as this one, or higher, is where ``truth`` is true."""
        return student.cdf((truth - self.mean) / self.error, self.df)

    def reach(self, share: float) -> float:
        """How far above the truth this share of all such means is at most."""
        return student.quantile(share, self.df) * self.error


@dataclass(frozen=True)
class Ratios:
    """What the rounds of some hosts say about a metric: the ratio of both sides as a logarithm, above 0 is worse."""

    more_is_better: bool
    hosts: Mapping[int, Sequence[float]]
    """Each round's ratio, by machine id; only hosts with two at least."""
    lacks: str
    """What could not be counted, for people."""

    @classmethod
    def of(cls, rounds: Mapping[int, Sequence[tuple[float, float]]], more_is_better: bool) -> Ratios:
        """Of the logarithms of baseline and candidate, by machine id. NaN: no value. -inf: the metric was 0. inf: it
        had no end, such as a time that most requests never came to.
        """
        finite = [side for found in rounds.values() for both in found for side in both if math.isfinite(side)]
        sign = -1 if more_is_better else 1
        # The worst value has no ratio. One that is twice as bad as all that was seen understates the difference, and
        # never invents one.
        worst = sign * math.inf
        instead = max((sign * side for side in finite), default=math.nan) + math.log(2)
        hosts, lacks, worsts = {}, 0, 0
        for machine, found in rounds.items():
            hosts[machine] = ratios = list[float]()
            for both in found:
                worsts += worst in both
                baseline, candidate = (instead if side == worst else sign * side for side in both)
                if math.isfinite(candidate - baseline):
                    ratios.append(candidate - baseline)
                else:
                    lacks += 1
        count = sum(map(len, rounds.values()))
        notes = [f"no value in {lacks} of {count} rounds"] if lacks else []
        if worsts:
            seen, taken = ("0", "half of the least") if more_is_better else ("without end", "twice the most")
            notes.append(f"{seen} in {worsts} of {count} rounds, taken as {taken} that was seen")
        return cls(
            more_is_better, {machine: each for machine, each in hosts.items() if len(each) > 1}, "; ".join(notes)
        )

    def gate(self, share: float) -> float:
        """The logarithm of what is worse by ``share``."""
        return -math.log1p(-share) if self.more_is_better else math.log1p(share)

    def share(self, ratio: float) -> float:
        """By how much a side with this logarithm of a ratio is worse: so much more latency, so much less throughput."""
        return -math.expm1(-ratio) if self.more_is_better else math.expm1(ratio)


def medians(windows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The logarithm of each metric: its median over windows, so that no single one counts that met an outlier.

    ``inf`` is a value, the worst: a window without it would leave its side the better ones.
    """
    values: dict[str, list[float]] = {}
    for window in windows:
        for metric, value in window.items():
            if value >= 0:
                values.setdefault(metric, []).append(math.log(value) if value else -math.inf)
    return {metric: statistics.median(found) for metric, found in values.items()}


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for being several."""
    corrected, least = list(values), 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, values[at] * (len(values) - rank)))
        corrected[at] = least
    return corrected


def same_share(failed: Sequence[float], of: Sequence[float], looks: int) -> bool:
    """Whether two sides fail equally often, as far as can be told.

    :param failed: How many of each side failed, and
    :param of: out of how many.
    :param looks: How often that is asked as more and more are seen: chance has so many tries.
    """
    one, other = (bad / max(1.0, count) for bad, count in zip(failed, of, strict=True))
    if abs(one - other) <= DIFFERENT_SHARE:
        return True
    both = sum(failed) / sum(of)
    error = math.sqrt(both * (1 - both) * sum(1 / max(1.0, count) for count in of))
    return error > 0 and 2 * (1 - NormalDist().cdf(abs(one - other) / error)) >= DIFFERENT_P / looks
