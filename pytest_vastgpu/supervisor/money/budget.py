"""The budget of a run: reserves each instance's worst case before it is rented, and settles the true cost at its end.

Two amounts cannot be bounded in advance. The price is the offer's until the market lists the instance, seconds after
its creation; after a raise it is the old price until the raise is seen. The traffic is what the workload states for its
image and model, since the market meters traffic in a unit that it does not document. Everything else is bounded before
it is spent.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.pricing import hourly_usd

GOING_S = 60.0 + Timeouts.destroy_within_s
"""How long an instance may cost money after its end of life: the bring-up on it ends and evidence is collected (a
minute at most), then it is destroyed and verified gone."""
ROUNDING_USD_H = 0.001
"""Prices that differ by no more count as equal: this is the smallest step of bids on the market."""


@dataclass(frozen=True)
class Reservation:
    """Money set aside for one instance."""

    usd_h: float
    """Its price: the offer's, then the market's."""
    transfer_usd: float
    life_s: float
    """Seconds until we destroy it at the latest."""
    since: float
    """Time of the reservation, on a monotonic clock in seconds. The instance is no older."""
    priced_from: float
    """Start of the present price: ``since``, unless the price was raised."""
    earlier_usd: float = 0.0
    """Its cost at earlier prices."""

    def held_usd(self, now: float) -> float:
        """The worst case. It grows where the instance outlives its time because it cannot be destroyed."""
        seconds = max(self.left_s, now - self.priced_from)
        return self.earlier_usd + self.usd_h * seconds / HOUR_S + self.transfer_usd

    @property
    def left_s(self) -> float:
        """The part of its life at the present price, in seconds."""
        return self.life_s - (self.priced_from - self.since)


class Budget:
    """A run's money. Thread-safe.

    :param limit_usd: Most that the whole run may cost.
    :param life_s: Seconds to an instance's hard end of life. :data:`GOING_S` is added.
    :param clock: Monotonic clock, in seconds.
    """

    def __init__(self, limit_usd: float, life_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_usd = limit_usd
        self._life_s = life_s + GOING_S
        self._clock = clock
        self._spent = 0.0
        self._reserved: dict[str, Reservation] = {}
        self._lock = threading.Lock()

    def reserve(self, label: str, usd_h: float, transfer_usd: float, life_s: float | None = None) -> None:
        """Set the worst case of one instance aside, before it is rented.

        :param life_s: Seconds to its end of life, where that is known; :data:`GOING_S` is added.
        :raises BudgetSpent: if it does not fit; the text shows the amounts. Nothing is set aside then.
        """
        with self._lock:
            now = self._clock()
            wanted = Reservation(usd_h, transfer_usd, self._life_s if life_s is None else life_s + GOING_S, now, now)
            self._fit(wanted, "renting once more" if life_s is None else "an instance that is there already")
            self._reserved[label] = wanted

    def bring(self, label: str, transfer_usd: float) -> None:
        """Set aside what a further transfer to an instance costs, too.

        :raises BudgetSpent: if it does not fit. The reservation stays as it is then.
        """
        with self._lock:
            before = self._reserved.get(label)
            if before is not None:
                wanted = replace(before, transfer_usd=before.transfer_usd + transfer_usd)
                self._replace(label, wanted, "another model on an instance that is there already")

    def shorten(self, label: str, usd_h: float, cost_usd: float, life_s: float) -> None:
        """Replace the reservation of an instance: its cost so far is spent, and it lives that long at most.

        :param life_s: Seconds from now on; :data:`GOING_S` is added.
        :raises BudgetSpent: if that does not fit. The reservation stays as it is then.
        """
        with self._lock:
            before, now = self._reserved.get(label), self._clock()
            transfer_usd = before.transfer_usd if before is not None else 0.0
            earlier_usd = max(0.0, cost_usd - transfer_usd)
            wanted = Reservation(usd_h, transfer_usd, life_s + GOING_S, now, now, earlier_usd)
            self._replace(label, wanted, "keeping an instance warm")

    def reprice(self, label: str, usd_h: float, *, since: float | None = None, earlier_usd: float = 0.0) -> None:
        """Replace an instance's price by the one that the market shows.

        :param since: Earliest start of this price, on this budget's clock; None: from the start.
        :param earlier_usd: Its cost until then.
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
        """Replace the reservation of an instance that is gone by its cost. A second call has no effect."""
        with self._lock:
            if self._reserved.pop(label, None) is not None:
                self._spent += max(0.0, cost_usd)

    def lasts_s(self, label: str) -> float:
        """Seconds until an instance must be given back so that the run does not exceed its limit.

        Reservations of other instances stay untouched. 0 or less: give it back now; infinite: it is gone.
        """
        with self._lock:
            mine = self._reserved.get(label)
            if mine is None or mine.usd_h <= 0:
                return math.inf
            now = self._clock()
            others = sum(each.held_usd(now) for name, each in self._reserved.items() if name != label)
            free_usd = self.limit_usd - self._spent - others - mine.transfer_usd - mine.earlier_usd
            return mine.priced_from + free_usd / mine.usd_h * HOUR_S - GOING_S - now

    @property
    def holds(self) -> bool:
        """Whether money is set aside for an instance that is not gone."""
        with self._lock:
            return bool(self._reserved)

    @property
    def committed_usd(self) -> float:
        """Money spent, and set aside for instances that are not gone."""
        with self._lock:
            return self._spent + self._held()

    def _held(self) -> float:
        now = self._clock()
        return sum(reservation.held_usd(now) for reservation in self._reserved.values())

    def _replace(self, label: str, wanted: Reservation, what: str) -> None:
        """Replace a reservation. It stays as it is if the new one does not fit."""
        before = self._reserved.pop(label, None)
        try:
            self._fit(wanted, what)
        except BudgetSpent:
            if before is not None:
                self._reserved[label] = before
            raise
        self._reserved[label] = wanted

    def _fit(self, wanted: Reservation, what: str) -> None:
        """Check that an amount fits. The caller holds the lock.

        :raises BudgetSpent: if it does not.
        """
        worst, held = wanted.held_usd(self._clock()), self._held()
        believable = wanted.usd_h >= 0 and wanted.transfer_usd >= 0
        if believable and self._spent + held + worst <= self.limit_usd:
            return
        raise BudgetSpent(
            f"{what} could cost {worst:.2f} USD ({wanted.usd_h:.4f} USD/h for {wanted.left_s / HOUR_S:.2f} h and "
            f"{wanted.transfer_usd:.2f} USD of transfer); with {self._spent:.2f} USD spent and {held:.2f} USD reserved "
            f"for what is running that is more than --vast-budget {self.limit_usd:g} USD: raise the budget, or lower "
            "--vast-max-lifetime or --vast-max-price"
        )


def too_dear(offer: Offer, workload: Workload, usd_h: float, max_usd_h: float) -> Verdict | None:
    """Judge an instance's price on the market by the same limit as its offer's.

    It is unknown whether the host or the market has changed the price, so no machine is blamed.

    :param usd_h: The market's price, disk included.
    :param max_usd_h: The limit on the price, see :func:`~pytest_vastgpu.selection.pricing.hourly_usd`.
    :returns: None where the price is within the limit.
    """
    hourly = hourly_usd(replace(offer, price_usd_h=usd_h), workload)
    if hourly <= max_usd_h + ROUNDING_USD_H:
        return None
    return Verdict(
        FailureClass.UNKNOWN,
        "price_above_limit",
        f"the market bills {usd_h:.4f} USD/h for it, its offer said {offer.price_usd_h:.4f} USD/h; with the transfer "
        f"that is {hourly:.4f} USD/h, more than --vast-max-price {max_usd_h:g} USD/h",
        "it is given back; to take it nevertheless, raise --vast-max-price",
    )


def beyond_budget(refused: BudgetSpent) -> Verdict:
    """The verdict on an instance whose true price does not fit into the budget."""
    return Verdict(
        FailureClass.UNKNOWN,
        "price_above_budget",
        str(refused),
        "it is given back; to take it nevertheless, raise --vast-budget",
    )


def incredible(wrong: str) -> Verdict:
    """The verdict on an instance with an impossible price on the market.

    :param wrong: What is wrong with it, in words.
    """
    return Verdict(
        FailureClass.UNKNOWN,
        "price_incredible",
        f"the market shows a price for it that cannot be true: {wrong}",
        "it is given back, since its cost is not known",
    )
