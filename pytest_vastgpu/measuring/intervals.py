"""How sure a number of one run is: intervals, valid although what follows each other in a run is not independent.

The run is cut into a few blocks of equal time, and what differs between blocks is the measure of doubt ("batch means",
Schmeiser 1982). For a quantile, the blocks say how sure the share of values below it is, and the sorted values
turn that into an interval (Woodruff 1952). Neither assumes a distribution. An interval tells how much the same run
would vary, not another start of the server, nor another host.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_vastgpu.measuring.comparing import student
from pytest_vastgpu.measuring.figures import Figure

NORMAL = 1.96
RATE_BLOCKS = 5
"""More would make intervals narrower, and wrong where speed drifts over a second of ten: with 10 blocks, 77 % of them
contain the true value instead of 91 %."""
QUANTILE_BLOCKS = 7
"""With 5, a p99 needs half as many requests again; with 10, 84 % of the intervals of p50 contain the true value instead
of 87 %."""
LEAST_BLOCKS = 3


@dataclass(frozen=True)
class TooFew:
    """So few values that nothing sure can be said."""

    needed: int
    """About how many would do, as dependent as they are; 0: more would not help."""
    unbounded: Figure | None = field(default=None, compare=False)
    """The quantile all the same, if only the upper end of its interval is not known; both are ``inf`` then, or that end
    alone is."""


@dataclass(frozen=True)
class Blocks:
    """A run, cut into blocks of equal time."""

    start: float
    """Seconds on the clock of all other times here."""
    seconds: float
    count: int

    def at(self, moment: float) -> int | None:
        """The block that a moment lies in; None outside the run."""
        if not self.start <= moment < self.start + self.seconds:
            return None
        return min(int((moment - self.start) / self.seconds * self.count), self.count - 1)

    def spread(self, begun: float, ended: float, amounts: list[float], amount: float = 1.0) -> None:
        """Add what was done from one moment to another to the blocks, evenly over that time."""
        length = self.seconds / self.count
        if ended <= begun:
            block = self.at(ended)
            if block is not None:
                amounts[block] += amount
            return
        first = max(0, int((begun - self.start) / length))
        for block in range(first, self.count):
            opens = self.start + block * length
            overlap = min(ended, opens + length) - max(begun, opens)
            if overlap > 0:
                amounts[block] += amount * overlap / (ended - begun)
            elif opens > ended:
                return


def for_rates(seconds: float, lasts_s: float = 0.0) -> Blocks:
    """Five blocks, or as many, three at least, as are twice as long as what links one moment to the next.

    :param lasts_s: How long that is: a request lies in several blocks if it takes longer than one.
    """
    most = int(seconds / (2 * lasts_s)) if lasts_s > 0 else RATE_BLOCKS
    return Blocks(0.0, seconds, max(LEAST_BLOCKS, min(RATE_BLOCKS, most)))


def for_quantiles(seconds: float) -> Blocks:
    """Blocks for :func:`quantiles`."""
    return Blocks(0.0, seconds, QUANTILE_BLOCKS)


def mean(values: Sequence[float], unit: str, better: int = 0) -> Figure:
    """The mean of the values of blocks, two at least. An amount that cannot be below 0 is not."""
    middle = statistics.fmean(values)
    half = student.quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    low = middle - half
    return Figure(middle, unit, max(0.0, low) if min(values) >= 0 else low, middle + half, better)


def quantiles(points: Iterable[tuple[float, float]], levels: Sequence[float], blocks: Blocks) -> list[Figure | TooFew]:
    """Quantiles of times in seconds, each with its moment in the run. ``inf`` is a value: what never came.

    :param levels: Each between 0 and 1: 0.99 is p99.
    """
    placed = [(block, value) for moment, value in points if (block := blocks.at(moment)) is not None]
    ordered = sorted(value for _, value in placed)
    found, needed = list[Figure | TooFew](), dict[float, int]()
    for level in levels:
        each = _quantile(placed, ordered, level, blocks.count)
        if isinstance(each, TooFew) and each.needed:
            # Where values are too few for the least count, how dependent they are is not known from this level.
            needed[level] = max([each.needed, *(count for lower, count in needed.items() if 0.5 <= lower < level)])
            each = replace(each, needed=needed[level])
        found.append(each)
    return found


def _quantile(
    placed: Sequence[tuple[int, float]], ordered: Sequence[float], level: float, blocks: int
) -> Figure | TooFew:
    count = len(ordered)
    # Below the first, even the largest value seen is too often below the quantile; below the second, values that are
    # independent have no interval here.
    least = max(math.ceil(math.log(0.025) / math.log(level)), math.ceil(NORMAL**2 * level / (1 - level)))
    if count < least:
        return TooFew(least)
    value = interpolated(ordered, level)
    if math.isinf(value):
        return TooFew(0, Figure(value, "s", value, value, -1))
    below, sizes = [0] * blocks, [0] * blocks
    for block, each in placed:
        sizes[block] += 1
        below[block] += each <= value
    share = sum(below) / count
    residuals = sum((inside - share * size) ** 2 for inside, size in zip(below, sizes, strict=True))
    between = student.quantile(0.975, blocks - 1) * math.sqrt(residuals * blocks / (blocks - 1)) / count
    # Blocks can be alike by chance: never surer than as many independent values would be.
    half = max(between, NORMAL * math.sqrt(level * (1 - level) / count))
    low = min(value, ordered[max(0, math.floor(count * (level - half)) - 1)])
    unbounded = Figure(value, "s", low, math.inf, -1)
    rank = math.ceil(count * (level + half))
    if rank > count:
        # ``half`` shrinks with the root of the count.
        return TooFew(max(count + 1, math.ceil(count * (half / (1 - level)) ** 2)), unbounded)
    high = ordered[rank - 1]
    return TooFew(0, unbounded) if math.isinf(high) else Figure(value, "s", low, max(high, value), -1)


def interpolated(ordered: Sequence[float], level: float) -> float:
    """The quantile of sorted values, between two of them where need be, as NumPy and ``vllm bench`` have it."""
    place = (len(ordered) - 1) * level
    lower, upper = ordered[math.floor(place)], ordered[math.ceil(place)]
    return lower if lower == upper else lower + (upper - lower) * (place - math.floor(place))
