"""The budgets of the runs that a supervisor serves. At any time one of them pays for an instance.

The run for which an instance is rented pays for it until that run ends. If the instance is then kept warm, the same
budget pays for the time that it may stay unused, and the next run that gets it pays from then on.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from dataclasses import replace

from pytest_vastgpu.supervisor.money.budget import Budget


@dataclass(frozen=True)
class Payment:
    """A period in which one run pays for an instance."""

    run: str
    """The run's id."""
    since: float
    """On the monotonic clock, in seconds."""
    before_usd: float = 0.0
    """What the instance had cost until then; earlier runs have paid that."""
    transfer_usd: float = 0.0
    """For the transfer of image and model."""
    until: float = math.inf
    """Infinite while the run goes on paying."""
    idle_since: float = math.inf
    """When the run has ended: from then on the instance waits for another one. Infinite before that."""


class RunBudgets:
    """The budget of each run, and which of them pays for which instance. Thread-safe."""

    def __init__(self) -> None:
        self._budgets: dict[str, Budget] = {}
        self._payments: dict[str, list[Payment]] = {}
        self._lock = threading.RLock()

    def join(self, run: str, budget: Budget) -> None:
        """Add a run. Its budget stays when the run has ended, for what it has left."""
        with self._lock:
            self._budgets[run] = budget

    def payments(self, label: str) -> list[Payment]:
        """Who has paid for an instance, and from when to when; the last one pays now."""
        with self._lock:
            return list(self._payments.get(label, ()))

    def payer(self, label: str) -> str:
        """The run that pays for an instance now; empty if none does."""
        with self._lock:
            payments = self._payments.get(label)
            return payments[-1].run if payments else ""

    def holds(self, run: str) -> bool:
        """Whether money of a run is set aside for an instance."""
        with self._lock:
            return self._budgets[run].holds

    def reserve(self, run: str, label: str, usd_h: float, transfer_usd: float, now: float) -> None:
        """Have a run pay for an instance that is about to be rented. See :meth:`Budget.reserve`.

        :param now: On the monotonic clock, in seconds.
        """
        with self._lock:
            self._budgets[run].reserve(label, usd_h, transfer_usd)
            self._payments[label] = [Payment(run, now, transfer_usd=transfer_usd)]

    def hand_over(
        self,
        label: str,
        run: str,
        usd_h: float,
        cost_usd: float,
        life_s: float,
        now: float,
        transfer_usd: float = 0.0,
    ) -> None:
        """Have another run pay for an instance from now on.

        :param cost_usd: What it has cost so far.
        :param life_s: Seconds until it is given back at the latest.
        :param transfer_usd: What bringing another model will cost.
        :raises BudgetSpent: if that does not fit into the run's budget. Nothing changes then.
        """
        with self._lock:
            last = self._payments[label][-1]
            self._budgets[run].reserve(label, usd_h, transfer_usd, life_s)
            self._budgets[last.run].settle(label, cost_usd - last.before_usd)
            self._payments[label][-1] = replace(last, until=now)
            self._payments[label].append(Payment(run, now, cost_usd, transfer_usd))

    def bring(self, label: str, transfer_usd: float) -> None:
        """See :meth:`Budget.bring`: the run that pays for the instance pays for that."""
        with self._lock:
            last = self._payments[label][-1]
            self._budgets[last.run].bring(label, transfer_usd)
            self._payments[label][-1] = replace(last, transfer_usd=last.transfer_usd + transfer_usd)

    def wait(self, label: str, usd_h: float, cost_usd: float, life_s: float, now: float) -> None:
        """Have the same run go on paying, for a shorter time than was reserved: the instance waits for the next run.

        :raises BudgetSpent: if even that does not fit: give the instance back. Its reservation stays until then.
        """
        with self._lock:
            last = self._payments[label][-1]
            self._budgets[last.run].shorten(label, usd_h, cost_usd - last.before_usd, life_s)
            self._payments[label][-1] = replace(last, idle_since=now)

    def reprice(self, label: str, usd_h: float, *, since: float | None = None, earlier_usd: float = 0.0) -> None:
        """See :meth:`Budget.reprice`."""
        with self._lock:
            if payments := self._payments.get(label):
                last = payments[-1]
                transfer_usd = sum(each.transfer_usd for each in payments[:-1])  # which is no part of earlier_usd
                earlier = max(0.0, earlier_usd - (last.before_usd - transfer_usd))
                self._budgets[last.run].reprice(label, usd_h, since=since, earlier_usd=earlier)

    def settle(self, label: str, cost_usd: float) -> None:
        """See :meth:`Budget.settle`.

        :param cost_usd: What the instance has cost all runs.
        """
        with self._lock:
            if payments := self._payments.get(label):
                last = payments[-1]
                self._budgets[last.run].settle(label, cost_usd - last.before_usd)

    def lasts_s(self, label: str) -> float:
        """See :meth:`Budget.lasts_s`."""
        with self._lock:
            payments = self._payments.get(label)
            return self._budgets[payments[-1].run].lasts_s(label) if payments else math.inf
