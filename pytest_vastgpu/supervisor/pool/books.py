"""The books of each run: what it pays for every instance, and what each of its tests costs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.reporting.costs import InstanceCost
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.reporting.costs import accounts
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
        bills = {label: self._part(run, bill) for label, bill in self._registry.bills().items()}
        used = {use.label for use in self._uses() if use.run == run}
        paid = {label for label in bills if any(payment.run == run for payment in self._budgets.payments(label))}
        ours = [attempt for attempt in self._registry.attempts() if attempt.label in used | paid]
        return accounts(ours, bills, self._named(run))

    def spent(self, run: str, test: str) -> float:
        """See :meth:`Leases.spent`."""
        return float(spent(test, self._registry.bills(), self._named(run)))

    def attempts(self) -> list[Attempt]:
        """Every attempt of all runs, in order, each with its cost so far."""
        return self._registry.attempts()

    def _named(self, run: str) -> list[Use]:
        """All uses, where the tests of other runs have another name."""
        return [use if use.run == run else use._replace(test=f"{use.test} (run {use.run})") for use in self._uses()]

    def _part(self, run: str, bill: CostRecord) -> CostRecord:
        """The part of an instance's cost that a run pays; no time at all if another one pays for it."""
        for payment in self._budgets.payments(bill.label):
            if payment.run == run:
                return bill.within(payment.since, payment.until)
        return bill.within(bill.until, bill.until)
