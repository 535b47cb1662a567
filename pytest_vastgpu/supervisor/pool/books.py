"""The books of each run: what it pays for every instance, and what each of its tests costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace

from pytest_vastgpu.model import State
from pytest_vastgpu.reporting.costs import InstanceCost
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.reporting.costs import shares
from pytest_vastgpu.reporting.costs import spent
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry


class Books:
    """Divides the cost of instances among the runs that pay for them, and their tests. Thread-safe.

    :param uses: Returns which test has used which instance, and from when to when.
    """

    def __init__(self, registry: RentalRegistry, budgets: RunBudgets, uses: Callable[[], Sequence[Use]]) -> None:
        self._registry = registry
        self._budgets = budgets
        self._uses = uses

    def of(self, run: str) -> list[InstanceCost]:
        """What each instance that a run has paid for or used has cost it so far, and each test's share of that."""
        attempts = self._registry.attempts()  # first: what others rent meanwhile has a bill, and is in the next books
        bills, uses = self._registry.bills(), self._named(run)
        used: dict[str, float] = {}  # since when the run has used each instance
        for use in uses:
            if use.run == run:
                used[use.label] = min(use.start, used.get(use.label, math.inf))
        found = []
        for attempt in attempts:
            bill = bills[attempt.label]
            payment = next((each for each in self._budgets.payments(attempt.label) if each.run == run), None)
            if payment is None and attempt.label not in used:
                continue
            if payment is not None:
                part = bill.within(payment.since, payment.until)._replace(transfer_usd=payment.transfer_usd)
            else:
                part = bill.within(used[attempt.label], used[attempt.label])
            idle_usd = bill.within(payment.idle_since, payment.until).cost_usd if payment else 0.0
            reused_at_s = part.since - bill.since if payment is None or payment.before_usd else 0.0
            if payment is not None and payment.until < math.inf:  # what came later is another run's
                attempt = replace(attempt, verdict=None, failed_in=None)
            if reused_at_s:
                seconds = {State.READY.value: part.until - part.since}
                attempt = replace(attempt, seconds=seconds, reused_at_s=reused_at_s)
            divided = shares(part, uses)
            attempt = replace(attempt, cost_usd=part.cost_usd)
            found.append(InstanceCost(attempt, part, divided, bill.until - bill.since, idle_usd))
        return found

    def spent(self, run: str, test: str) -> float:
        """See :meth:`Leases.spent`."""
        return float(spent(test, self._registry.bills(), self._named(run)))

    def _named(self, run: str) -> list[Use]:
        """All uses, where the tests of other runs have another name."""
        return [use if use.run == run else use._replace(test=f"{use.test} (run {use.run})") for use in self._uses()]
