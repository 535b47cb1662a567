"""The plan of a run: what it would rent, in which order, what that may cost, and what does not fit. Pure.

It decides nothing itself: offers are ranked by :mod:`pytest_vastgpu.selection`, the pool's planner says what is rented
when collection ends, and the budget says what it would set aside.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.selection.ranking import Ranked
from pytest_vastgpu.selection.search import Survey
from pytest_vastgpu.servers.host import alike
from pytest_vastgpu.settings import Settings
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.pool.kinds import of_one_kind
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner

_RUN = "the run"
NOTHING = "nothing can be rented for it"
"""What is wrong with a workload that no offer fits."""


class Affordable(StrEnum):
    """Whether the budget allows a workload's first offer."""

    AT_ONCE = "at once"
    """Together with everything that is rented before it."""
    IN_TURN = "in turn"
    """Once another instance has been given back."""
    NEVER = "never"
    """Not even alone."""


@dataclass(frozen=True)
class Found:
    """What the market has for one workload, after the hooks."""

    survey: Survey
    ranked: tuple[Ranked, ...]
    """The offers that would be tried, in that order: those of the survey, unless a hook has changed them."""
    by_hook: bool = False
    """Whether a hook has left others, or another order."""


@dataclass(frozen=True)
class Start:
    """An instance that is rented when collection ends."""

    workload: Workload
    offer: Offer
    worst_usd: float
    """What the budget sets aside for it: it lives to its end of life."""


@dataclass(frozen=True)
class WorkloadPlan:
    """What would be rented for one workload."""

    workload: Workload
    name: str
    """In words; no two workloads of a plan have the same."""
    tests: int
    """Number of tests that may ask for it."""
    certain: int
    """Number of those that are sure to ask."""
    at_once: int
    """Number of instances that are rented when collection ends."""
    found: Found
    affordable: Affordable | None
    """None where there is nothing to rent."""
    worst_usd: float
    """What the budget sets aside for one instance of the first offer."""
    attempts: int
    """How many offers are tried where each attempt fails."""
    every_attempt_usd: float
    """The cost where each of these attempts lives to its end of life."""

    @property
    def best(self) -> Ranked | None:
        """The offer that is tried first."""
        return self.found.ranked[0] if self.found.ranked else None

    @property
    def possible(self) -> bool:
        """Whether an instance can be rented at all."""
        return self.affordable in (Affordable.AT_ONCE, Affordable.IN_TURN)

    @property
    def ready_s(self) -> float:
        """Expected seconds until an instance is ready, failed starts included; infinite where none is possible.

        As for the expected cost, a start that fails is taken to last as long as one that succeeds.
        """
        return self.best.seconds / self.best.chance if self.best and self.possible else math.inf


@dataclass(frozen=True)
class Plan:
    """What a run would rent. Nothing is rented to find out."""

    workloads: tuple[WorkloadPlan, ...]
    """In the order in which tests need them."""
    starts: tuple[Start, ...]
    """What is rented when collection ends, in that order."""
    settings: Settings
    credit_usd: float | None
    """The account's credit; None if the key may not see it."""
    unknown: int = 0
    """Number of tests whose workload is known only when they run."""
    own: int = 0
    """Number of tests that rent instances of their own while they run."""
    warm: tuple[Warm, ...] = ()
    """What an earlier run has left for this one. The rest of the plan is for the case that it cannot be used."""

    def warm_for(self, each: WorkloadPlan) -> list[tuple[Warm, bool]]:
        """The warm instances that may serve a workload, and whether each has its server, as far as names tell.

        Those whose own workload no test of the plan needs may take another one's server.
        """
        own = [(warm, True) for warm in self.warm if warm.workload == each.name]
        names = {other.name for other in self.workloads}
        return own or [(warm, False) for warm in self.warm if warm.workload not in names]

    @property
    def set_aside_usd(self) -> float:
        """What the budget would set aside for all instances that are rented when collection ends."""
        return math.fsum(start.worst_usd for start in self.starts)

    @property
    def every_attempt_usd(self) -> float:
        """The cost where every allowed attempt of every workload lives to its end of life, without the budget."""
        return math.fsum(each.every_attempt_usd * max(1, each.at_once) for each in self.workloads)

    @property
    def worst_usd(self) -> float:
        """Most that the run can cost."""
        return min(self.every_attempt_usd, self.settings.budget)

    @property
    def until_ready_usd(self) -> float:
        """Expected cost until everything is ready, failed starts included."""
        return math.fsum(
            each.best.expected_cost_usd * max(1, each.at_once) for each in self.workloads if each.best and each.possible
        )

    @property
    def expected_usd(self) -> float:
        """Expected cost of the run, where each instance is used as long as its workload expects."""
        return self.until_ready_usd + math.fsum(
            each.best.offer.price_usd_h * each.workload.expected_use_s / HOUR_S * max(1, each.at_once)
            for each in self.workloads
            if each.best and each.possible
        )

    @property
    def unrecorded(self) -> int:
        """How many of the first offers are on machines without a record: chance and time are assumptions there."""
        return sum(1 for each in self.workloads if each.best and each.best.record is None)

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Why the run cannot rent what it needs: the workload's name, or nothing, and a sentence. Empty if it can."""
        found = []
        if self.credit_usd is not None and self.credit_usd <= 0:
            found.append(("", f"the account has no credit ({self.credit_usd:.2f} USD)"))
        for each in self.workloads:
            if each.best is None:
                found.append((each.name, NOTHING))
            elif not each.possible:
                text = (
                    f"{each.worst_usd:.2f} USD would be set aside for one instance, more than --vast-budget "
                    f"{self.settings.budget:g} USD: raise it, or lower --vast-max-lifetime or --vast-max-price"
                )
                found.append((each.name, text))
        return found


def make_plan(
    tests: Mapping[str, Expected],
    found: Mapping[Workload, Found],
    settings: Settings,
    *,
    credit_usd: float | None = None,
    workers: int = 1,
    own: int = 0,
    warm: Sequence[Warm] = (),
) -> Plan:
    """The plan of a run with these tests.

    :param tests: What the selected tests need, by node id, in the order of the run.
    :param found: What the market has, for each workload of these tests.
    :param workers: How many tests run at a time.
    :param own: How many tests rent instances of their own.
    :param warm: What an earlier run has left for this one.
    """
    pool = PoolPlanner(settings.max_instances, lambda: 0.0)
    pool.join(_RUN, workers)
    pool.runs[_RUN].expect(tests)
    begun, _ = pool.plan()
    starts: list[Start] = []
    for slot in begun:
        taken = {start.offer.id for start in starts}
        ranked = [each.offer for each in found[slot.workload].ranked]
        if offers := _of_its_kind(ranked, slot.workload, [each.workload for each in begun], starts):
            # As the provisioner takes them: the best one that the run has not taken yet.
            offer = min(offers, key=lambda offer: offer.id in taken)
            starts.append(Start(slot.workload, offer, worst_case_usd(offer, slot.workload, settings)))
    at_once = Counter(slot.workload for slot in begun)
    names = WorkloadNames()
    budget = _Budgeting(starts, settings)
    return Plan(
        tuple(
            WorkloadPlan(
                workload,
                names[workload],
                pool.runs.pending[workload],
                pool.runs.certain[workload],
                at_once[workload],
                found[workload],
                budget.affords(workload, found[workload].ranked),
                math.fsum(budget.worst_of(found[workload].ranked[:1], workload)),
                len(_tried(found[workload].ranked, settings.attempts)),
                math.fsum(budget.worst_of(_tried(found[workload].ranked, settings.attempts), workload)),
            )
            for workload in dict.fromkeys(each.workload for each in tests.values() if each.workload is not None)
        ),
        tuple(starts),
        settings,
        credit_usd,
        pool.runs.unknown,
        own,
        tuple(warm),
    )


def _of_its_kind(
    offers: Sequence[Offer], workload: Workload, begun: Sequence[Workload], starts: Sequence[Start]
) -> Sequence[Offer]:
    """The offers that may be taken for a workload: hosts that are alike are of one GPU kind."""
    group = alike(workload)
    if group is None or not workload.gpus:
        return offers
    kind = next((start.offer.gpu_name for start in starts if alike(start.workload) == group), "")
    return of_one_kind(offers, sum(alike(each) == group for each in begun), kind)


def worst_case_usd(offer: Offer, workload: Workload, settings: Settings) -> float:
    """What the budget sets aside for one instance."""
    budget = Budget(math.inf, settings.longest_life, lambda: 0.0)
    budget.reserve("", offer.price_usd_h, transfer_usd(offer, workload))
    return budget.committed_usd


def _tried(ranked: Sequence[Ranked], attempts: int) -> list[Ranked]:
    """The offers that are tried where each attempt fails: no machine is tried twice."""
    first_of: dict[int, Ranked] = {}
    for each in ranked:
        first_of.setdefault(each.offer.machine_id, each)
    return list(first_of.values())[:attempts]


class _Budgeting:
    """The run's budget at the moment at which collection ends."""

    def __init__(self, starts: Sequence[Start], settings: Settings) -> None:
        self._settings = settings
        self._budget = Budget(settings.budget, settings.longest_life, lambda: 0.0)
        self._begun = {start.workload for start in starts}
        self._afforded: set[Workload] = set()
        for number, start in enumerate(starts):
            with suppress(BudgetSpent):
                transfer = transfer_usd(start.offer, start.workload)
                self._budget.reserve(str(number), start.offer.price_usd_h, transfer)
                self._afforded.add(start.workload)

    def worst_of(self, ranked: Sequence[Ranked], workload: Workload) -> list[float]:
        """What is set aside for each of these offers."""
        return [worst_case_usd(each.offer, workload, self._settings) for each in ranked]

    def affords(self, workload: Workload, ranked: Sequence[Ranked]) -> Affordable | None:
        """When the first of these offers can be rented; None if there is none."""
        if not ranked:
            return None
        worst_usd = worst_case_usd(ranked[0].offer, workload, self._settings)
        if worst_usd > self._settings.budget:
            return Affordable.NEVER
        left_usd = self._settings.budget - self._budget.committed_usd
        beside = workload in self._afforded or (workload not in self._begun and worst_usd <= left_usd)
        return Affordable.AT_ONCE if beside else Affordable.IN_TURN
