"""Carries out what the planner decides: rents, looks at, starts again and gives back instances, each in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import workload_line
from pytest_vastgpu.reporting.words import words
from pytest_vastgpu.reputation.outcomes import workload_key
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.settings import Settings
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.pool.losses import Losses
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner
from pytest_vastgpu.supervisor.pool.planner import Slot
from pytest_vastgpu.supervisor.pool.provisioner import Provisioner
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry
from pytest_vastgpu.supervisor.rental import reuse
from pytest_vastgpu.supervisor.rental.clash import clash
from pytest_vastgpu.supervisor.rental.rental import Rental


@dataclass
class _Serving:
    """A test has the server of its own instance replaced, or a second one started beside it."""

    workload: Workload
    beside: bool
    over: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class PlanExecutor:
    """The threads of a pool. Thread-safe.

    :param lock: Guards the planner, and what is here. Every change notifies it.
    :param adapters: The adapters of the runs that there are, by name.
    :param budgets: Who pays for which instance.
    :param record_lost: Called for each instance that was lost while in use.
    :param fits: Whether an offer that was taken would also satisfy a workload.
    """

    def __init__(
        self,
        lock: threading.Condition,
        planner: PoolPlanner,
        registry: RentalRegistry,
        adapters: Mapping[str, Adapter],
        budgets: RunBudgets,
        record_lost: Callable[[Attempt, Workload], None],
        fits: Callable[[Workload, Offer], bool],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._changed = lock
        self._planner = planner
        self._registry = registry
        self._adapters = adapters
        self._budgets = budgets
        self._fits = fits
        self._settings = settings
        self._clock = clock
        self.losses = Losses(lock, planner, registry, self, record_lost, settings.max_lifetime)
        """Takes instances away from tests."""
        self._provisioner: Provisioner | None = None
        self._threads: list[threading.Thread] = []
        self._busy: set[int] = set()
        """The slots with an instance whose server a thread looks at, or starts again."""
        self._closed = False

    def open(self, provisioner: Provisioner) -> None:
        """Start renting, with this provisioner."""
        self._provisioner = provisioner

    def close(self) -> list[threading.Thread]:
        """Begin nothing more, and cancel what is under way; returns the threads. The caller holds the lock."""
        self._closed = self.losses.closing = True
        for slot in self._planner.slots.values():
            slot.cancel.cancel()
        self._changed.notify_all()
        return list(self._threads)

    def act(self) -> None:
        """Carry out the planner's decisions. The caller holds the lock."""
        if self._closed or self._provisioner is None:
            return
        for slot in self._planner.wanted():
            self._use_again(slot)
        for slot in self._planner.to_take_over(self._may_take_over):
            self._use_again(slot)
        for slot in self._planner.about_to_be_shared():
            if self._registry[slot.label].doubtful:
                self._planner.doubt(slot)
                self._busy.add(slot.number)
                self._background(self._revive, slot, f"vastgpu-revive-{slot.label}")
        starts, ends = self._planner.plan()
        for slot in starts:
            self._background(self._provision, slot, f"vastgpu-rent-{slot.number}")
        for slot in ends:
            self._end(slot)

    def retire(self, label: str) -> None:
        """Give an instance back, so that no test gets it any more. The caller holds the lock."""
        slot = self._planner.of(label)
        if slot is not None and not self.losses.closing:
            self._retire(slot)
            self.act()

    def avoid(self, machine_id: int) -> None:
        """Do not rent this machine again: it failed by its own fault."""
        self._opened.avoid(machine_id)

    def begin_anew(self) -> None:
        """A run begins where there is none: only what is remembered of machines counts. The caller holds the lock."""
        if self._provisioner is not None:
            self._provisioner.begin_anew()

    def pass_on(self, slot: Slot) -> None:
        """Have another run pay for a ready instance whose run is over, or have it wait for one."""
        payer = self._budgets.payer(slot.label)
        if not payer or payer in self._planner.runs or slot.phase not in (SlotPhase.READY, SlotPhase.LEAVING):
            return
        rental = self._registry[slot.label]
        heirs = [hold.run for hold in slot.holds if hold.run in self._planner.runs]
        if slot.owner is not None or (not heirs and slot.phase is SlotPhase.LEAVING):
            return  # the planner gives it back
        if slot.holds and not heirs:
            return  # tests of a run that was called off use it until that run leaves
        if not heirs and rental.unguarded:  # it may only go on as long as pytest waits for its end
            rental.tell("is given back: it has no dead man's switch, so nothing would end it if this machine died")
            self._retire(slot)
            return
        try:
            if heirs:
                rental.cost.paid_by(heirs[0], rental.workload, rental.workload)
                slot.run = heirs[0]
            else:
                warm_s = self._planner.warm_s(payer)
                rental.cost.waits(warm_s)
                self._planner.waits(slot, warm_s)
        except BudgetSpent as refused:
            rental.tell(f"is given back: {refused}")
            if heirs:
                self._planner.leave(slot)
            else:
                self._retire(slot)

    def apart(self, one: Workload, other: Workload) -> str:
        """See :meth:`Leases.apart`."""
        adapters, services = self._adapters, self._opened.services
        login, ports_matter = services.image_login, self._settings.expose
        return reuse.apart(one, adapters[one.adapter], other, adapters[other.adapter], login, ports_matter)

    def clash(self, one: Workload, other: Workload) -> str:
        """See :meth:`Leases.clash`."""
        return clash(one, other, self._settings.expose)

    def serve(self, label: str, workload: Workload, *, beside: bool) -> None:
        """See :meth:`InstanceCalls.serve`, and :meth:`InstanceCalls.serve_beside`. The caller waits."""
        serving = _Serving(workload, beside)
        with self._changed:
            slot, rental = self._planner.of(label), self._registry[label]
            if slot is None or self._closed:
                if rental.cut_short is not None:  # the test has not noticed yet
                    raise self._opened.not_ready(rental, workload, rental.cut_short)
                raise VastGpuError("the instance has been given back, and serves nothing any more")
            if slot.owner is None:
                raise ConfigurationError(
                    "serve() and serve_beside() are for an instance of the test's own, and this one is shared with "
                    "other tests: rent one with vast_instance_factory"
                )
            if slot.number in self._busy:
                raise VastGpuError("another thread of the test replaces the server of this instance already")
            if why := reuse.takes(rental, workload, self._adapters[workload.adapter]):
                raise ConfigurationError(f"this instance cannot run {workload_line(workload)}: {why}")
            if beside and (why := rental.is_full or self.clash(rental.workload, workload)):
                raise ConfigurationError(f"{workload_line(workload)} cannot be served beside {rental.purpose}: {why}")
            rental.cost.will_bring(rental.workload, workload)
            self._busy.add(slot.number)
            self._background(partial(self._serve, serving), slot, f"vastgpu-serve-{label}")
        serving.over.wait()
        if serving.error is not None:
            raise serving.error

    # -------------------------------------------------------------- threads

    def _serve(self, serving: _Serving, slot: Slot) -> None:
        rental = self._registry[slot.label]
        adapter = self._adapters[serving.workload.adapter]
        try:
            failed = self._opened.serve(rental, serving.workload, adapter, slot.cancel, beside=serving.beside)
            if failed is not None:
                serving.error = failed
                self.losses.lose(rental, *filter(None, (attempt.verdict for attempt in failed.attempts)))
        except BaseException as error:  # noqa: BLE001 - raised in the test that waits for it
            ended = rental.cut_short if isinstance(error, Cancelled) else None  # or the run is ending
            serving.error = error if ended is None else self._opened.not_ready(rental, serving.workload, ended)
        finally:
            if serving.error is not None:  # beside what has not started, one may run: it is given back, and not lost
                rental.servers.replace("was stopped", by_test=True)
            with self._changed:
                self._busy.discard(slot.number)
                if serving.error is not None and slot.phase is not SlotPhase.ENDING:
                    self._planner.retire(slot)  # whether anything serves there is not known
                if slot.phase is SlotPhase.ENDING:
                    self._end(slot)
                self.act()
                self._changed.notify_all()
            serving.over.set()

    def _retire(self, slot: Slot) -> None:
        self._planner.retire(slot)
        self._end(slot)

    def _use_again(self, slot: Slot) -> None:
        """Have a thread look at a warm instance, and make it serve the workload of its slot."""
        self._planner.checks(slot)
        rental, payer = self._registry[slot.label], self._budgets.payer(slot.label)
        try:  # not in the thread: where the money is for one of two, the one that is wanted first gets it
            rental.cost.paid_by(slot.run, rental.workload, slot.workload)
        except BudgetSpent as refused:
            self._planner.cannot_pay(slot, payer, rental.workload, refused, self._scarce(slot, refused))
            return
        self._busy.add(slot.number)
        self._background(self._provision, slot, f"vastgpu-reuse-{slot.label}")

    @property
    def _opened(self) -> Provisioner:
        assert self._provisioner is not None  # noqa: S101 - the pool rents nothing before open()
        return self._provisioner

    def _end(self, slot: Slot) -> None:
        if slot.label and slot.number not in self._busy:
            self._background(self._give_back, slot, f"vastgpu-destroy-{slot.label}")
        else:
            slot.cancel.cancel()  # the thread that brings it up, or revives it, then gives it back

    def _may_take_over(self, slot: Slot, workload: Workload) -> bool:
        """Whether a warm instance may run another workload, by starting only another server."""
        rental = self._registry[slot.label]
        if workload.adapter not in self._adapters or reuse.takes(rental, workload, self._adapters[workload.adapter]):
            return False
        # What is remembered of machines does not count for one that is rented, and is not read under the lock.
        key, now = workload_key(workload), self._clock.time()
        wanted = OfferRequirements.under(self._settings, workload, key, Reputation(), now)
        return bool(admit([rental.offer], wanted).kept)

    def _revive(self, slot: Slot) -> None:
        """See whether the server of an instance serves; start it again, or end an instance that is of no more use."""
        rental = self._registry[slot.label]
        try:
            useless = self._opened.revive(rental, self._adapters[slot.workload.adapter], slot.cancel)
        except Cancelled:
            useless = None
        except BaseException as error:  # noqa: BLE001 - the next bring-up of the workload raises it again
            text = f"{type(error).__name__}: {error}"
            rental.tell(f"{words(slot.workload).no_look}: {text}")
            useless = Verdict(FailureClass.UNKNOWN, "restart_failed", text, "another host would do")
        try:
            if useless is not None:
                self.losses.lose(rental, useless)
        finally:
            with self._changed:
                self._busy.discard(slot.number)
                if slot.phase is SlotPhase.ENDING:
                    self._end(slot)
                else:
                    self._planner.arrived(slot, slot.label)
                    self.pass_on(slot)
                self.act()
                self._changed.notify_all()

    def _provision(self, slot: Slot) -> None:
        error: BaseException | None = None
        rental: Rental | None = None
        attempts: list[Attempt] = []
        try:
            adapter = self._adapters[slot.workload.adapter]
            if slot.label:
                rental, attempts = self._used_again(slot, adapter)
            if rental is None:
                other_than = slot.owner.other_than if slot.owner is not None else frozenset()
                rental = self._opened.provision(slot.workload, adapter, slot.cancel, slot.run, attempts, other_than)
        except Cancelled:
            pass
        except BaseException as failed:  # noqa: BLE001 - raised in the tests that wait for it
            error = failed
        scarce = error is not None and self._scarce(slot, error)
        with self._changed:
            self._busy.discard(slot.number)
            if rental is not None:
                self._planner.arrived(slot, rental.label)
                if slot.phase is SlotPhase.ENDING:  # cancelled after it became ready
                    self._end(slot)
                else:
                    self.pass_on(slot)
            elif error is None or slot.phase is SlotPhase.ENDING:
                self._planner.gone(slot)
            else:
                self._planner.failed(slot, error, scarce)
            self.act()
            self._changed.notify_all()

    def _used_again(self, slot: Slot, adapter: Adapter) -> tuple[Rental | None, list[Attempt]]:
        """The warm instance of a slot, if it is of use; else the attempts that have failed on it. It is gone then."""
        warm = self._registry[slot.label]
        attempts = self._opened.use_again(warm, slot.workload, adapter, slot.cancel)
        if attempts is None:
            return warm, []
        with self._changed:
            self._planner.rents_anew(slot)
            self.act()  # the run for which it was wanted may be over
        return None, attempts

    def _scarce(self, slot: Slot, error: BaseException) -> bool:
        """Whether the error is for lack of what other instances hold: budget of the same run, or suitable machines."""
        if isinstance(error, BudgetSpent):
            return self._budgets.holds(slot.run) or self._planner.has_given_back_since(slot)
        if not isinstance(error, NoOffers) and not (isinstance(error, ProvisioningFailed) and not error.attempts):
            return False
        other_than = slot.owner.other_than if slot.owner is not None else frozenset()
        try:
            return any(
                rental.instance_id
                and rental.offer.machine_id not in other_than
                and self._fits(slot.workload, rental.offer)
                for rental in self._registry.alive()
            )
        except VastGpuError:  # the reputation cannot be read now; report the first error
            return False

    def _give_back(self, slot: Slot) -> None:
        self._registry.give_back(self._registry[slot.label])
        with self._changed:
            self._planner.gone(slot)
            self.act()
            self._changed.notify_all()

    def _background(self, work: Callable[[Slot], None], slot: Slot, name: str) -> None:
        thread = threading.Thread(target=work, args=(slot,), name=name, daemon=True)
        try:
            thread.start()
        except BaseException:  # the system gives no more of them: nobody is busy with the slot, so it can be ended
            self._busy.discard(slot.number)
            raise
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
