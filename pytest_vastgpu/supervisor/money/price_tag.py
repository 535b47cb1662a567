"""What one instance costs an hour, as the market has shown it by now, and whether that may be paid."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.money.budget import ROUNDING_USD_H
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.money.budget import BudgetSpent
from pytest_vastgpu.supervisor.money.budget import beyond_budget
from pytest_vastgpu.supervisor.money.budget import incredible
from pytest_vastgpu.supervisor.money.budget import too_dear
from pytest_vastgpu.supervisor.money.costs import CostRecord
from pytest_vastgpu.supervisor.money.costs import EarlierPrice


class InstancePrice:
    """The price of one instance. One thread looks at a time.

    :param label: Names the instance in the budget.
    :param max_usd_h: Most that it may cost, all in.
    :param clock: Seconds that only go forward.
    """

    def __init__(
        self,
        label: str,
        offer: Offer,
        workload: Workload,
        max_usd_h: float,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.earlier: tuple[EarlierPrice, ...] = ()
        """The prices that it had before, the oldest first."""
        self.too_dear: Verdict | None = None
        """Why nobody may get it any more, where its price has become more than may be paid."""
        self._label = label
        self._offer = offer
        self._workload = workload
        self._max_usd_h = max_usd_h
        self._budget = budget
        self._clock = clock
        self._shown_usd_h = 0.0
        self._looked_at = 0.0
        """When the market last showed a price."""

    @property
    def usd_h(self) -> float:
        """What the market shows, and until it shows it, what the offer said."""
        return self._shown_usd_h or self._offer.price_usd_h

    def look(self, status: InstanceStatus, bill: Callable[[], CostRecord]) -> str:
        """Take the price that the market shows now; of several, the dearest counts, from the look before on.

        :param bill: What the instance has cost by now, with this price.
        :returns: What to tell of it; empty where nothing is new.
        """
        looked_before = self._looked_at
        if status.price_usd_h > 0:
            self._looked_at = self._clock()
        if status.incredible:
            return self._condemn(incredible(status.incredible))
        usd_h, before = status.price_usd_h, self._shown_usd_h
        if usd_h <= before:
            return ""
        if before:
            self.earlier += (EarlierPrice(before, looked_before),)
        self._shown_usd_h = usd_h
        verdict = too_dear(self._offer, self._workload, usd_h, self._max_usd_h)
        try:
            if before:
                earlier = bill()._replace(until=looked_before, transfer_usd=0.0).cost_usd
                self._budget.reprice(self._label, usd_h, since=looked_before, earlier_usd=earlier)
            else:
                self._budget.reprice(self._label, usd_h)
        except BudgetSpent as refused:
            verdict = verdict or beyond_budget(refused)
        if verdict is not None:
            return self._condemn(verdict)
        if not before and abs(usd_h - self._offer.price_usd_h) <= ROUNDING_USD_H:
            return ""
        was = f"it was {before:.4f} USD/h" if before else f"its offer said {self._offer.price_usd_h:.4f} USD/h"
        return f"costs {usd_h:.4f} USD/h, {was}"

    def _condemn(self, verdict: Verdict) -> str:
        if self.too_dear is not None:
            return ""
        self.too_dear = verdict
        return f"no new test gets it: {verdict.evidence}"
