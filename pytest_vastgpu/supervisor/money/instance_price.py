"""The hourly price of one instance as the market shows it, checked against the limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.reporting.costs import EarlierPrice
from pytest_vastgpu.supervisor.money.budget import ROUNDING_USD_H
from pytest_vastgpu.supervisor.money.budget import beyond_budget
from pytest_vastgpu.supervisor.money.budget import incredible
from pytest_vastgpu.supervisor.money.budget import too_dear


class Reprices(Protocol):
    """What pays for the instance: a budget, or the budgets of several runs."""

    def reprice(self, label: str, usd_h: float, *, since: float | None = None, earlier_usd: float = 0.0) -> None:
        """See :meth:`~pytest_vastgpu.supervisor.money.budget.Budget.reprice`."""
        ...


class InstancePrice:
    """The price of one instance. Not thread-safe: only one thread may call :meth:`look` at a time.

    :param label: Names the instance in the budget.
    :param max_usd_h: Limit of its hourly price, everything included.
    :param clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        label: str,
        offer: Offer,
        workload: Workload,
        max_usd_h: float,
        budget: Reprices,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.earlier: tuple[EarlierPrice, ...] = ()
        """Its earlier prices, oldest first."""
        self.too_dear: Verdict | None = None
        """Why no new test may use it, where its price is above the limits; None otherwise."""
        self._label = label
        self._offer = offer
        self._workload = workload
        self._max_usd_h = max_usd_h
        self._budget = budget
        self._clock = clock
        self._shown_usd_h = 0.0
        self._shown_at = 0.0
        """When the market last showed a price."""

    @property
    def usd_h(self) -> float:
        """The market's price, or the offer's until the market shows one."""
        return self._shown_usd_h or self._offer.price_usd_h

    def look(self, status: InstanceStatus, bill: Callable[[], CostRecord]) -> str:
        """Take the price that the market shows now. The highest price so far counts, from the previous look on.

        :param bill: Returns the instance's cost so far, with this price.
        :returns: A text for people about a change; empty without one.
        """
        shown_before = self._shown_at
        if status.price_usd_h > 0:
            self._shown_at = self._clock()
        if status.incredible:
            return self._condemn(incredible(status.incredible))
        usd_h, before = status.price_usd_h, self._shown_usd_h
        if usd_h <= before:
            return ""
        if before:
            self.earlier += (EarlierPrice(before, shown_before),)
        self._shown_usd_h = usd_h
        verdict = too_dear(self._offer, self._workload, usd_h, self._max_usd_h)
        try:
            if before:
                earlier = bill()._replace(until=shown_before, transfer_usd=0.0).cost_usd
                self._budget.reprice(self._label, usd_h, since=shown_before, earlier_usd=earlier)
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
