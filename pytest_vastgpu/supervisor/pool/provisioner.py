"""Provisions a ready instance for a workload: tries offer after offer until one is ready or no other may help."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import OfferRefused
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import failure
from pytest_vastgpu.reporting.sentences import together
from pytest_vastgpu.reporting.words import words
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.host import alike
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.pool.kinds import of_one_kind
from pytest_vastgpu.supervisor.rental.bringup import bring_up
from pytest_vastgpu.supervisor.rental.bringup import launch_beside
from pytest_vastgpu.supervisor.rental.bringup import relaunch
from pytest_vastgpu.supervisor.rental.bringup import restart
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.retry import NextStep
from pytest_vastgpu.supervisor.rental.retry import Refusals
from pytest_vastgpu.supervisor.rental.retry import after_failure
from pytest_vastgpu.supervisor.rental.reuse import Restart
from pytest_vastgpu.supervisor.rental.reuse import Useless
from pytest_vastgpu.supervisor.rental.reuse import look_again
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd
from pytest_vastgpu.supervisor.rental.services import AttemptFailed
from pytest_vastgpu.supervisor.rental.services import RentalServices

SOLD_TWICE = "offer_sold_twice"
STALE_OFFERS = 20
"""After this many offers were taken by others or refused, provisioning fails."""


@dataclass
class Provisioner:
    """Finds offers for workloads and brings instances up. Thread-safe; it holds no lock while it waits."""

    services: RentalServices
    find: Callable[[str, Workload, frozenset[int], frozenset[int]], Sequence[Offer]]
    """Returns offers for a run's workload, best first, without these machines and these offers. Raises NoOffers."""
    record: Callable[[Attempt, Workload], None]
    """Records the outcome of an attempt."""
    started: Callable[[Rental], None]
    """Called with each rental before its instance is created, so that it is given back in any case."""
    ended: Callable[[Rental, Attempt], None]
    """Called with each failed attempt after its instance is given back."""
    reused: Callable[[Rental], None] = lambda _: None
    """Called with each rental that another run pays for from now on."""
    hosts_wanted: Callable[[Workload], int] = lambda _: 1
    """How many hosts like that one are wanted."""
    names: WorkloadNames = field(default_factory=WorkloadNames)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _attempts: Counter[Workload] = field(default_factory=Counter)
    """How many there were, by workload."""
    _failed_machines: set[int] = field(default_factory=set)
    _kinds: dict[Workload, str] = field(default_factory=dict)
    """The GPU kind of hosts that are alike, once one of them was ready."""
    _rentals: list[Rental] = field(default_factory=list)
    _taking: threading.Lock = field(default_factory=threading.Lock)

    def provision(
        self,
        workload: Workload,
        adapter: Adapter,
        cancel: CancelToken,
        run: str,
        before: Sequence[Attempt] = (),
        other_than: frozenset[int] = frozenset(),
    ) -> Rental:
        """Rent an instance and bring it to *ready*.

        :param run: The run that pays for it.
        :param before: What :meth:`use_again` has returned.
        :param other_than: Machines that it must not be on.
        :raises ProvisioningFailed: with all attempts, if none became ready.
        :raises NoOffers: if the market has no suitable offer.
        :raises BudgetSpent: if the first offer could cost more than the budget has left.
        :raises RequestRejected: if offer after offer is refused in the same words, before anything was rented.
        :raises MarketError: the market's or our own fault.
        :raises Cancelled: the run is ending; everything rented is given back.
        """
        attempts = list(before)
        tried = {attempt.offer.machine_id for attempt in attempts} | other_than
        gone: set[int] = set()
        refusals = Refusals()
        lost_to_another = 0
        if attempts:
            self._go_on(workload, attempts)
        while True:
            cancel.check()
            try:
                offers = self.find(run, workload, frozenset(self._failed_machines | tried), frozenset(gone))
            except NoOffers as none_left:
                if not attempts:
                    raise
                why = str(none_left).removeprefix("no offers: ").replace("\n", "\n    ")
                raise self._failed(workload, attempts, f"there is none: {why}") from None
            offers = refusals.sort(offers)
            if not offers:
                taken = f"{count(len(gone), 'offer')} taken by others, and no other is left; try again"
                by_others = refusals.told() or taken
                by_hook = (
                    "pytest_vastgpu_modify_offers (in a conftest file or another plugin) has left none of the offers "
                    "that could be rented; have it leave some, or change what is asked for so that others come in"
                )
                raise self._failed(workload, attempts, by_others if gone else by_hook)
            try:
                rental = self._take(workload, offers)
            except NoOffers as of_its_kind:
                if not attempts:
                    raise
                raise self._failed(workload, attempts, str(of_its_kind)) from None
            offer = rental.offer
            try:
                return self._try(rental, workload, adapter, cancel, run)
            except BudgetSpent as refused:
                if not attempts:
                    raise
                raise self._failed(workload, attempts, str(refused)) from None
            except OfferGone:
                gone.add(offer.id)
                if len(gone) >= STALE_OFFERS:
                    text = f"{len(gone)} offers in a row were taken by others; try again"
                    raise self._failed(workload, attempts, text) from None
            except OfferRefused as refused:
                gone.add(offer.id)
                refusals.add(offer, refused)
                if not refusals.for_the_request and len(gone) < STALE_OFFERS:
                    continue
                if not attempts:
                    raise RequestRejected(refusals.told(), status=refused.status, code=refused.code) from None
                raise self._failed(workload, attempts, refusals.told()) from None
            except _Over as over:
                if over.attempt.verdict and over.attempt.verdict.reason == SOLD_TWICE:
                    gone.add(offer.id)
                    lost_to_another += 1
                    if lost_to_another == 1:
                        continue  # bad luck; a series of it has another cause, and costs money each time
                attempts.append(over.attempt)
                tried.add(offer.machine_id)
                self._go_on(workload, attempts)

    def _go_on(self, workload: Workload, attempts: Sequence[Attempt]) -> None:
        """Decide after the last attempt whether another one may help.

        :raises ProvisioningFailed: it would not.
        """
        last = attempts[-1]
        if last.verdict and last.verdict.failure_class is FailureClass.INFRA_FATAL:
            self.avoid(last.offer.machine_id)
        most = self.services.settings.attempts
        if after_failure(attempts, most) is NextStep.STOP:
            ended = f"--vast-attempts {most} allows no more" if len(attempts) >= most else ""
            raise self._failed(workload, attempts, ended) from None

    def use_again(
        self, rental: Rental, workload: Workload, adapter: Adapter, cancel: CancelToken
    ) -> list[Attempt] | None:
        """Make an instance that an earlier run has left serve a workload. If it is of no use, it is given back.

        The run that wants it pays for it already.

        :returns: None: it serves. Otherwise the attempt that has failed, if the workload's server was started on it.
        :raises VastGpuError: our own fault, or the market's; the instance is given back.
        :raises Cancelled: the same.
        """
        context = BringUpContext(self.services, rental, adapter, cancel)
        try:
            self.reused(rental)
            found = look_again(context, workload)
            if isinstance(found, Useless):
                attempt = rental.finish(found.verdict)
                self.ended(rental, attempt)
                if found.verdict.failure_class.blames_machine:
                    self.record(attempt, rental.workload)
            else:
                if isinstance(found, Restart):
                    relaunch(context, workload, found.why, self.names[workload])
                rental.forget_tests()
                return None
        except AttemptFailed as failed:
            return [self._over(rental, failed.verdict, workload, cancel).attempt]
        except BaseException:
            self._give_back(rental)
            raise
        self._give_back(rental)
        return []

    def _over(self, rental: Rental, verdict: Verdict, workload: Workload, cancel: CancelToken) -> _Over:
        """Record a failed attempt, and give its instance back.

        :raises Cancelled: the run is ending: a connection that its end has closed says nothing of the machine.
        """
        if cancel.cancelled:
            self._give_back(rental)
            raise Cancelled
        attempt = rental.finish(verdict)
        self.record(attempt, workload)
        self._give_back(rental)
        self.ended(rental, attempt)
        return _Over(attempt)

    def _failed(self, workload: Workload, attempts: Sequence[Attempt], ended: str) -> ProvisioningFailed:
        """The error for a workload whose attempts, if any, have all failed; the run's events tell it, too."""
        if not attempts:
            return ProvisioningFailed(ended)
        name = self.names[workload]
        if len(attempts) > 1:
            text = f"giving up {name}: {together(attempts)}"
            self.services.events.write(Event("", None, text, time=self.services.clock.time()))
        return ProvisioningFailed(failure(name, attempts, ended, words(workload)), attempts)

    def revive(self, rental: Rental, adapter: Adapter, cancel: CancelToken) -> Verdict | None:
        """See whether the server of a ready instance serves. Start one that has ended again, once in its instance.

        :returns: Why the instance is of no use any more; None: its server serves.
        :raises VastGpuError: whatever looking and starting raises; the state of the instance is unknown then.
        :raises Cancelled: the instance is given back.
        """
        found = rental.look()
        if not isinstance(found, ServerEnd):
            return found
        if found.verdict.failure_class.blames_machine or rental.restarted:
            return found.verdict
        try:
            restart(BringUpContext(self.services, rental, adapter, cancel), f"it {found.how}")
        except AttemptFailed as failed:
            return failed.verdict
        return None

    def serve(
        self, rental: Rental, workload: Workload, adapter: Adapter, cancel: CancelToken, *, beside: bool = False
    ) -> ProvisioningFailed | None:
        """Replace the server of an instance, as the test wants whose own it is, by that of a workload that it takes.

        :param beside: Whether the server goes on, and the workload's is started beside it.
        :returns: Why it does not start, with the attempt; None: it serves.
        :raises VastGpuError: our own fault, or the market's; the state of the instance is unknown then.
        :raises Cancelled: the instance is given back.
        """
        context = BringUpContext(self.services, rental, adapter, cancel)
        try:
            with rental.in_detail():  # it may be one of many times
                if beside:
                    launch_beside(context, workload, self.names[workload])
                else:
                    relaunch(context, workload, name=self.names[workload], by_test=True)
        except AttemptFailed as failed:
            return self.not_ready(rental, workload, failed.verdict)
        return None

    def not_ready(self, rental: Rental, workload: Workload, verdict: Verdict) -> ProvisioningFailed:
        """The error for a workload that a test's own instance was to serve."""
        return self._failed(workload, [rental.attempt(verdict, rental.state)], "")

    def avoid(self, machine_id: int) -> None:
        """Do not rent this machine again in this run, for any workload: it failed by its own fault."""
        self._failed_machines.add(machine_id)

    def begin_anew(self) -> None:
        """Forget which machines have failed, as a supervisor that starts does: the reputation knows for how long.

        Hosts may be of another GPU kind, too.
        """
        self._failed_machines = set()
        self._kinds = {}

    def _take(self, workload: Workload, offers: Sequence[Offer]) -> Rental:
        """A rental of the best offer that this run has not taken yet; where there is none, of the best offer.

        Workloads share search results: without this, all would ask for the same offer, and the market would refuse most
        of them. Hosts that are alike are of one GPU kind: that of those that are there, or were ready.

        :raises NoOffers: if no offer is of that kind.
        """
        wanted = self.hosts_wanted(workload)
        with self._taking:
            alive = [rental for rental in self._rentals if rental.state is not State.GONE]
            taken = {rental.offer.id for rental in alive}
            if (group := alike(workload)) is not None and workload.gpus:
                kinds = (rental.offer.gpu_name for rental in alive if alike(rental.workload) == group)
                kind = self._kinds.get(group) or next(kinds, "")
                found = of_one_kind(offers, wanted, kind)
                if not found:
                    raise NoOffers(
                        f"all hosts of a run are of one GPU kind, here {kind}, and no other offer of it can be rented; "
                        "ask for fewer hosts, or choose a kind of which there is more by --vast-gpu-name"
                    )
                offers = found
            offer = min(offers, key=lambda offer: offer.id in taken)
            self._attempts[workload] += 1
            number, nth = next(self._numbers), self._attempts[workload]
            rental = Rental(self.services, workload, offer, number, nth, self.names[workload])
            self._rentals.append(rental)
        return rental

    def _try(self, rental: Rental, workload: Workload, adapter: Adapter, cancel: CancelToken, run: str) -> Rental:
        offer, now = rental.offer, self.services.clock.monotonic()
        self.services.budgets.reserve(run, rental.label, offer.price_usd_h, transfer_usd(offer, workload), now)
        self.started(rental)
        try:
            bring_up(BringUpContext(self.services, rental, adapter, cancel))
        except OfferGone as lost:
            if not rental.instance_id:
                self._give_back(rental)
                raise
            # The create was granted, and another client has the machine: that is no fault of the machine.
            verdict = Verdict(FailureClass.UNKNOWN, SOLD_TWICE, str(lost), "another offer would do")
            attempt = rental.finish(verdict)
            self._give_back(rental)
            self.ended(rental, attempt)
            raise _Over(attempt) from lost
        except AttemptFailed as failed:
            raise self._over(rental, failed.verdict, workload, cancel) from failed
        except BaseException:
            self._give_back(rental)
            raise
        self.record(rental.attempt(), workload)
        if (group := alike(workload)) is not None:
            self._kinds.setdefault(group, offer.gpu_name)
        return rental

    def _give_back(self, rental: Rental) -> None:
        """Destroy the instance. One that resists stays in the registry, which tries again at the end and reports it."""
        try:
            rental.give_back()  # ignores the cancel token: it also waits while the run is ending
        except NotDestroyed as error:
            self.services.events.write(Event(rental.label, rental.state, str(error), time=self.services.clock.time()))


class _Over(Exception):
    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.label)
        self.attempt = attempt
