"""What one instance costs: its price, the transfer, and which run pays for it."""

from __future__ import annotations

from dataclasses import replace

from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.supervisor.money.instance_price import InstancePrice
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets


class RentalCost:
    """Upper bound of an instance's cost so far: its price from create on, and the transfer of image and model.

    The time runs on our own clock from before the create until the instance is verified gone, and so is never shorter
    than the market's.

    :param max_usd_h: Limit of its hourly price, everything included.
    :param life_s: Seconds from create to the hard end of its life.
    """

    def __init__(
        self,
        label: str,
        offer: Offer,
        workload: Workload,
        max_usd_h: float,
        life_s: float,
        budgets: RunBudgets,
        clock: Clock,
    ) -> None:
        self._label = label
        self._offer = offer
        self._life_s = life_s
        self._budgets = budgets
        self._clock = clock
        self._price = InstancePrice(label, offer, workload, max_usd_h, budgets, clock.monotonic)
        self._transfer_usd = transfer_usd(offer, workload)
        self._models = {(workload.model, workload.model_gb)}
        """The models that were brought: they stay on its disk."""
        self._created: float | None = None
        self._gone_at: float | None = None

    def begins(self) -> None:
        """It is about to be created: from now on it may cost money."""
        self._created = self._clock.monotonic()

    def refused(self) -> None:
        """It was not created after all."""
        self._created = None

    def ends(self) -> None:
        """It is verified gone."""
        self._gone_at = self._clock.monotonic()

    @property
    def created(self) -> float:
        """When it was created, on the monotonic clock; 0 before that."""
        return self._created or 0.0

    @property
    def age_s(self) -> float:
        """Seconds since create."""
        return 0.0 if self._created is None else self._clock.monotonic() - self._created

    @property
    def remaining_life_s(self) -> float:
        """Seconds until the hard end of its life."""
        return self._life_s - self.age_s

    @property
    def usd(self) -> float:
        """Its cost so far."""
        return self.bill.cost_usd

    @property
    def usd_h(self) -> float:
        """Its price per hour: the market's, or the offer's until the market shows one."""
        return self._price.usd_h

    @property
    def bill(self) -> CostRecord:
        """Its cost so far, with the prices that it is made of."""
        until = self._clock.monotonic() if self._gone_at is None else self._gone_at
        if self._created is None:
            return CostRecord(self._label, 0.0, 0.0, until, until, gone=True)
        gone = self._gone_at is not None
        return CostRecord(self._label, self.usd_h, self._transfer_usd, self._created, until, gone, self._price.earlier)

    @property
    def too_dear(self) -> Verdict | None:
        """Why no new test may use it, where its price is above the limits; None otherwise."""
        return self._price.too_dear

    @property
    def money_lasts_s(self) -> float:
        """See :meth:`~pytest_vastgpu.supervisor.money.budget.Budget.lasts_s`."""
        return self._budgets.lasts_s(self._label)

    def look(self, status: InstanceStatus) -> str:
        """Take the price that the market shows now. One above the limits sets :attr:`too_dear`.

        :returns: A text for people about a change; empty without one.
        """
        return self._price.look(status, lambda: self.bill)

    def settle(self) -> None:
        """It is gone: the run that pays for it has its cost, and nothing is set aside for it any more."""
        self._budgets.settle(self._label, self.usd)

    def paid_by(self, run: str, before: Workload, workload: Workload) -> None:
        """Have another run pay for it from now on.

        :param before: What it serves.
        :param workload: What that run needs there.
        :raises BudgetSpent: if that does not fit into the run's budget.
        """
        life_s, now = max(0.0, self.remaining_life_s), self._clock.monotonic()
        brings_usd = self._brings_usd(before, workload)
        self._budgets.hand_over(self._label, run, self.usd_h, self.usd, life_s, now, brings_usd)

    def will_bring(self, before: Workload, workload: Workload) -> None:
        """Set aside what it costs to bring another workload's model: the same run pays for it.

        :raises BudgetSpent: if that does not fit into the run's budget.
        """
        if usd := self._brings_usd(before, workload):
            self._budgets.bring(self._label, usd)

    def waits(self, seconds: float) -> None:
        """Have it wait that long for the next run, at most until the end of its life. The same run pays for that.

        :raises BudgetSpent: if that does not fit into the run's budget.
        """
        life_s = max(0.0, min(seconds, self.remaining_life_s))
        self._budgets.wait(self._label, self.usd_h, self.usd, life_s, self._clock.monotonic())

    def brings(self, before: Workload, workload: Workload) -> None:
        """Another workload takes the place of the one before: its model is brought."""
        self._transfer_usd += self._brings_usd(before, workload)
        self._models.add((workload.model, workload.model_gb))

    def _brings_usd(self, before: Workload, workload: Workload) -> float:
        if (workload.model, workload.model_gb) in {(before.model, before.model_gb), *self._models}:
            return 0.0
        return transfer_usd(self._offer, replace(workload, image_gb=0.0))
