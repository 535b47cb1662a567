"""Divides instances' costs among tests: the tests that use an instance share the price of each second. Pure.

Times are seconds on the monotonic clock. Money is exact, in decimal USD down to a billionth, so that the shares of the
tests and the overhead of an instance add up to its cost to the last digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import ROUND_HALF_EVEN
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.model import Attempt

_SMALLEST = Decimal("1e-9")
"""Smallest amount in USD; a millisecond of a cheap instance costs a hundred times as much."""


class Use(NamedTuple):
    """A period in which a test used an instance."""

    test: str
    """The test's node id."""
    label: str
    """The instance's label."""
    start: float
    end: float
    """Infinite while the use continues."""
    run: str = ""
    """The run that the test belongs to."""


class EarlierPrice(NamedTuple):
    """A price that an instance no longer has."""

    usd_h: float
    until: float


class CostRecord(NamedTuple):
    """Upper bound of an instance's cost: its price from create on until it is verified gone, and the transfer."""

    label: str
    usd_h: float
    transfer_usd: float
    since: float
    until: float
    """When it was verified gone; before that, now."""
    gone: bool = False
    """Whether it is verified gone and no longer costs money."""
    earlier: tuple[EarlierPrice, ...] = ()
    """Its earlier prices, oldest first; ``usd_h`` is the price after the last of them."""

    @property
    def stretches(self) -> list[tuple[float, float, float]]:
        """Start, end and price of each period; no period has a negative length."""
        found, start = [], self.since
        for usd_h, until in (*self.earlier, EarlierPrice(self.usd_h, self.until)):
            end = max(start, min(until, self.until))
            found.append((start, end, usd_h))
            start = end
        return found

    def within(self, since: float, until: float) -> CostRecord:
        """The part of it in a period. The transfer belongs to the part that begins with the instance."""
        start = min(max(self.since, since), self.until)
        transfer_usd = self.transfer_usd if since <= self.since else 0.0
        return self._replace(since=start, until=max(start, min(self.until, until)), transfer_usd=transfer_usd)

    @property
    def cost_usd(self) -> float:
        """Total USD."""
        return sum(usd_h * (end - start) for start, end, usd_h in self.stretches) / HOUR_S + self.transfer_usd


@dataclass(frozen=True)
class Shares:
    """An instance's cost, divided among tests."""

    cost: Decimal
    """Total USD: the tests' shares and the overhead."""
    tests: Mapping[str, Decimal] = field(default_factory=dict)
    """USD by node id."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each of these tests used the instance, alone or with others."""

    @property
    def overhead(self) -> Decimal:
        """USD of the time without a test (boot, waiting, the end), and of the transfer."""
        return self.cost - sum(self.tests.values(), Decimal(0))


def shares(bill: CostRecord, uses: Iterable[Use]) -> Shares:
    """Divide an instance's cost: each moment's price among the tests that use it at that moment.

    :param uses: Uses of this instance; those of other instances are ignored.
    """
    own = [use for use in uses if use.label == bill.label]
    usd: dict[str, Fraction] = {}
    seconds: dict[str, float] = {}
    for start, end, usd_h in bill.stretches:
        usd_s = Fraction(str(usd_h)) / Fraction(HOUR_S)
        for test, part in _parts(own, start, end, seconds).items():
            usd[test] = usd.get(test, Fraction(0)) + usd_s * part
    # Cut, never rounded up, so that the shares never add up to more than the cost.
    return Shares(money(bill.cost_usd), {test: _cut(part) for test, part in usd.items()}, seconds)


def _parts(uses: Iterable[Use], since: float, until: float, seconds: dict[str, float]) -> dict[str, Fraction]:
    """The seconds of a period, divided among the tests that use the instance at each moment.

    :param seconds: This function adds to it how long each test used the instance, alone or with others.
    """
    changes = sorted(
        (moment, step, use.test)
        for use in uses
        if max(use.start, since) < min(use.end, until)
        for moment, step in ((max(use.start, since), 1), (min(use.end, until), -1))
    )
    parts: dict[str, Fraction] = {}
    active: Counter[str] = Counter()  # a test may use the instance twice at the same time
    before = 0.0
    for moment, step, test in changes:
        for user in active:
            parts[user] = parts.get(user, Fraction(0)) + (Fraction(moment) - Fraction(before)) / len(active)
            seconds[user] = seconds.get(user, 0.0) + moment - before
        active[test] += step
        if not active[test]:
            del active[test]
        before = moment
    return parts


def by_test(divided: Iterable[Shares]) -> dict[str, Decimal]:
    """USD of each test over all instances, most expensive first."""
    sums: dict[str, Decimal] = {}
    for each in divided:
        for test, usd in each.tests.items():
            sums[test] = sums.get(test, Decimal(0)) + usd
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def spent(test: str, bills: Mapping[str, CostRecord], uses: Sequence[Use]) -> Decimal:
    """USD of one test over all instances. It computes only the time in which the test ran.

    :param bills: By label.
    """
    own = [use for use in uses if use.test == test]
    beside = [
        use
        for use in uses
        if any(use.label == mine.label and use.start < mine.end and mine.start < use.end for mine in own)
    ]
    labels = {use.label for use in own} & bills.keys()
    return sum((shares(bills[label], beside).tests.get(test, Decimal(0)) for label in labels), Decimal(0))


@dataclass(frozen=True)
class InstanceCost:
    """One instance and its cost."""

    attempt: Attempt
    bill: CostRecord
    shares: Shares
    age_s: float = 0.0
    """Seconds since its create, also where an earlier run has rented it."""
    idle_usd: float = 0.0
    """What it has cost while it waited for another run, part of the overhead."""


def money(usd: float) -> Decimal:
    """An amount rounded to the smallest unit."""
    return Decimal(usd).quantize(_SMALLEST, ROUND_HALF_EVEN)


def _cut(usd: Fraction) -> Decimal:
    return Decimal(int(usd / Fraction(_SMALLEST))) * _SMALLEST
