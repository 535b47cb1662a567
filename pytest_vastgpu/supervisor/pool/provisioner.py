"""From a workload to a ready instance: offer after offer, until one is ready or there is no point in going on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import failure
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.money.budget import BudgetSpent
from pytest_vastgpu.supervisor.rental.bringup import bring_up
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.retry import NextStep
from pytest_vastgpu.supervisor.rental.retry import after_failure
from pytest_vastgpu.supervisor.rental.services import AttemptFailed
from pytest_vastgpu.supervisor.rental.services import RentalServices

STALE_OFFERS = 20
"""So many offers may be gone when asked for before it is called hopeless."""


@dataclass
class Provisioner:
    """Finds machines for workloads and brings them up. Any thread may use it; it holds no lock while waiting."""

    services: RentalServices
    find: Callable[[Workload, frozenset[int], frozenset[int]], Sequence[Offer]]
    """Offers for a workload, best first, without the machines that are named, nor the offers. Raises NoOffers."""
    record: Callable[[Attempt, Workload], None]
    """Keeps the outcome of an attempt."""
    started: Callable[[Rental], None]
    """Told of each rental before it is created, so that it can be given back whatever happens."""
    ended: Callable[[Rental, Attempt], None]
    """Told of each failed attempt when its instance is gone."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _failed_machines: set[int] = field(default_factory=set)
    _rentals: list[Rental] = field(default_factory=list)
    _taking: threading.Lock = field(default_factory=threading.Lock)

    def provision(self, workload: Workload, adapter: Adapter, cancel: CancelToken) -> Rental:
        """A ready instance.

        :raises ProvisioningFailed: with all attempts, if none became ready.
        :raises NoOffers: if nothing (more) is on the market.
        :raises BudgetSpent: if the first one could cost more than the run may.
        :raises MarketError: the market's or our own fault.
        :raises Cancelled: the run is ending; whatever was rented is given back.
        """
        attempts: list[Attempt] = []
        tried: set[int] = set()
        gone: set[int] = set()
        while True:
            cancel.check()
            try:
                offers = self.find(workload, frozenset(self._failed_machines | tried), frozenset(gone))
            except NoOffers as none_left:
                if not attempts:
                    raise
                why = str(none_left).removeprefix("no offers: ").replace("\n", "\n    ")
                raise ProvisioningFailed(
                    f"{failure(workload, attempts)}\n  no other offer to try: {why}", attempts
                ) from None
            if not offers:
                by_others = f"all {len(gone)} offers were taken by others; try again"
                by_hook = (
                    "pytest_vastgpu_modify_offers (in a conftest file or another plugin) has left none of the offers "
                    "that could be rented; have it leave some, or change what is asked for so that others come in"
                )
                raise ProvisioningFailed(by_others if gone else by_hook, attempts)
            rental = self._take(workload, offers)
            offer = rental.offer
            try:
                return self._try(rental, workload, adapter, cancel)
            except BudgetSpent as refused:
                if not attempts:
                    raise
                raise ProvisioningFailed(
                    f"{failure(workload, attempts)}\n  no other offer is tried: {refused}", attempts
                ) from None
            except OfferGone:
                gone.add(offer.id)
                if len(gone) >= STALE_OFFERS:
                    raise ProvisioningFailed(f"{len(gone)} offers in a row were taken by others; try again") from None
            except _Over as over:
                attempts.append(over.attempt)
                tried.add(offer.machine_id)
                if over.attempt.verdict and over.attempt.verdict.failure_class is FailureClass.INFRA_FATAL:
                    self.avoid(offer.machine_id)
                if after_failure(attempts, self.services.settings.attempts) is NextStep.STOP:
                    raise ProvisioningFailed(failure(workload, attempts), attempts) from None

    def avoid(self, machine_id: int) -> None:
        """Do not rent this machine again in this run, for whatever workload: it failed by its own fault."""
        self._failed_machines.add(machine_id)

    def _take(self, workload: Workload, offers: Sequence[Offer]) -> Rental:
        """A rental of the best offer that this run has not taken yet; where there is none, of the best one.

        Workloads share answers of the market: without this, all would ask for the same offer, and most be refused.
        """
        with self._taking:
            taken = {rental.offer.id for rental in self._rentals if rental.state is not State.GONE}
            offer = min(offers, key=lambda offer: offer.id in taken)
            rental = Rental(self.services, workload, offer, next(self._numbers))
            self._rentals.append(rental)
        return rental

    def _try(self, rental: Rental, workload: Workload, adapter: Adapter, cancel: CancelToken) -> Rental:
        offer = rental.offer
        self.services.budget.reserve(rental.label, offer.price_usd_h, transfer_usd(offer, workload))
        self.started(rental)
        try:
            bring_up(BringUpContext(self.services, rental, adapter, cancel))
        except AttemptFailed as failed:
            attempt = rental.finish(failed.verdict)
            self.record(attempt, workload)
            self._give_back(rental)
            self.ended(rental, attempt)
            raise _Over(attempt) from failed
        except BaseException:
            self._give_back(rental)
            raise
        self.record(rental.attempt(), workload)
        return rental

    def _give_back(self, rental: Rental) -> None:
        """Destroy; what cannot be destroyed now stays with the broker, which tries again and tells at the end."""
        try:
            rental.give_back()  # waits whatever was cancelled: also when the run is being called off
        except NotDestroyed as error:
            self.services.events.write(Event(rental.label, rental.state, str(error), time=self.services.clock.time()))


class _Over(Exception):
    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.label)
        self.attempt = attempt
