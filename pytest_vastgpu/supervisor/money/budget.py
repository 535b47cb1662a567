"""What a run may cost: the worst case is reserved before each rent, and replaced by the truth when it is over.

What holds, and what nobody can promise: an instance's price is what its offer says until the market shows the
instance, seconds after it was created, and after a raise the old one until that is seen; traffic is what the workload
says of its image and model, since the market meters it in a unit that it does not document. Everything else is bounded
before it is spent.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.pricing import hourly_usd

GOING_S = 60.0 + Timeouts.destroy_within_s
"""How long an instance may go on costing money after its end has come: what runs on it just then is ended and evidence
is kept (a minute at most), then it is destroyed and seen to be gone."""
ROUNDING_USD_H = 0.001
"""Prices that differ by no more are the same: it is the smallest step in which the market's prices are bid."""


class BudgetSpent(VastGpuError):
    """Renting once more could cost more than the run may."""


@dataclass(frozen=True)
class Reservation:
    """What is set aside for one instance."""

    usd_h: float
    """Its price: the offer's, then the market's own."""
    transfer_usd: float
    life_s: float
    """Seconds until it is gone at the latest, by our own doing."""
    since: float
    """When it was set aside: seconds on a clock that only goes forward. The instance is no older."""
    priced_from: float
    """Since when it has its price; from ``since`` on, unless it was raised."""
    earlier_usd: float = 0.0
    """What it cost before."""

    def held_usd(self, now: float) -> float:
        """The worst case; more only where the instance outlives it, because it cannot be destroyed."""
        seconds = max(self.left_s, now - self.priced_from)
        return self.earlier_usd + self.usd_h * seconds / 3600 + self.transfer_usd

    @property
    def left_s(self) -> float:
        """How much of its life it has its price."""
        return self.life_s - (self.priced_from - self.since)


class Budget:
    """A run's money. Any thread may use it.

    :param limit_usd: What the whole run may cost at worst.
    :param life_s: Seconds after which an instance's end has come, whatever happens. :data:`GOING_S` is added.
    :param clock: Seconds that only go forward.
    """

    def __init__(self, limit_usd: float, life_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_usd = limit_usd
        self._life_s = life_s + GOING_S
        self._clock = clock
        self._spent = 0.0
        self._reserved: dict[str, Reservation] = {}
        self._lock = threading.Lock()

    def reserve(self, label: str, usd_h: float, transfer_usd: float) -> None:
        """Set the worst case of one instance aside, before it is rented.

        :raises BudgetSpent: if it does not fit; the text shows the sum. Nothing is set aside then.
        """
        with self._lock:
            now = self._clock()
            wanted = Reservation(usd_h, transfer_usd, self._life_s, now, now)
            self._fit(wanted, "renting once more")
            self._reserved[label] = wanted

    def reprice(self, label: str, usd_h: float, *, since: float | None = None, earlier_usd: float = 0.0) -> None:
        """Take the price that the market shows for an instance in place of the one before.

        :param since: Since when it may have this price, on this budget's clock; None: from the start.
        :param earlier_usd: What it cost until then.
        :raises BudgetSpent: if its worst case no longer fits: it must be destroyed at once. What it may cost until
            then stays set aside, at its true price.
        """
        with self._lock:
            before = self._reserved.pop(label, None)
            if before is None:
                return
            start = before.since if since is None else since
            wanted = replace(before, usd_h=usd_h, priced_from=start, earlier_usd=earlier_usd)
            try:
                self._fit(wanted, f"an instance that costs {usd_h:.4f} USD/h in truth, not {before.usd_h:.4f} USD/h,")
            finally:
                self._reserved[label] = wanted

    def settle(self, label: str, cost_usd: float) -> None:
        """Replace the reservation of an instance that is gone by what it cost. Told twice, it counts once."""
        with self._lock:
            if self._reserved.pop(label, None) is not None:
                self._spent += max(0.0, cost_usd)

    def lasts_s(self, label: str) -> float:
        """For how long an instance may stay until it has to be told to go, so that the run's limit is not passed.

        What is reserved for others stays theirs. Not above 0 where it has to go now; infinite for one that is gone.
        """
        with self._lock:
            mine = self._reserved.get(label)
            if mine is None or mine.usd_h <= 0:
                return math.inf
            now = self._clock()
            others = sum(each.held_usd(now) for name, each in self._reserved.items() if name != label)
            free_usd = self.limit_usd - self._spent - others - mine.transfer_usd - mine.earlier_usd
            return mine.priced_from + free_usd / mine.usd_h * 3600 - GOING_S - now

    @property
    def committed_usd(self) -> float:
        """What is spent, and what is set aside for instances that are not gone."""
        with self._lock:
            return self._spent + self._held()

    def _held(self) -> float:
        now = self._clock()
        return sum(reservation.held_usd(now) for reservation in self._reserved.values())

    def _fit(self, wanted: Reservation, what: str) -> None:
        """The lock is held."""
        worst, held = wanted.held_usd(self._clock()), self._held()
        believable = wanted.usd_h >= 0 and wanted.transfer_usd >= 0
        if believable and self._spent + held + worst <= self.limit_usd:
            return
        raise BudgetSpent(
            f"{what} could cost {worst:.2f} USD ({wanted.usd_h:.4f} USD/h for {wanted.left_s / 3600:.2f} h and "
            f"{wanted.transfer_usd:.2f} USD of transfer); with {self._spent:.2f} USD spent and {held:.2f} USD reserved "
            f"for what is running that is more than --vast-budget {self.limit_usd:g} USD: raise the budget, or lower "
            "--vast-max-lifetime or --vast-max-price"
        )


def too_dear(offer: Offer, workload: Workload, usd_h: float, max_usd_h: float) -> Verdict | None:
    """Judge the price that the market shows for an instance, as its offer's was judged.

    Nobody can say whether the host or the market has changed it, so nobody is blamed.

    :param usd_h: What the market shows, disk included.
    :param max_usd_h: The limit on the price, see :func:`~pytest_vastgpu.selection.pricing.hourly_usd`.
    :returns: None where it may stay.
    """
    hourly = hourly_usd(replace(offer, price_usd_h=usd_h), workload)
    if hourly <= max_usd_h + ROUNDING_USD_H:
        return None
    return Verdict(
        FailureClass.UNKNOWN,
        "price_above_limit",
        f"the market bills {usd_h:.4f} USD/h for it, its offer said {offer.price_usd_h:.4f} USD/h; with the transfer "
        f"that is {hourly:.4f} USD/h, more than --vast-max-price {max_usd_h:g} USD/h",
        "it is given back and another offer is tried; to take it nevertheless, raise --vast-max-price",
    )


def beyond_budget(refused: BudgetSpent) -> Verdict:
    """The verdict on an instance whose true price does not fit into the budget."""
    return Verdict(
        FailureClass.UNKNOWN,
        "price_above_budget",
        str(refused),
        "it is given back and another offer is tried; to take it nevertheless, raise --vast-budget",
    )


def incredible(wrong: str) -> Verdict:
    """The verdict on an instance of which the market shows a price that cannot be true.

    :param wrong: What is wrong with it, in words.
    """
    return Verdict(
        FailureClass.UNKNOWN,
        "price_incredible",
        f"the market shows a price for it that cannot be true: {wrong}",
        "it is given back and another offer is tried, since nobody can say what it costs",
    )
