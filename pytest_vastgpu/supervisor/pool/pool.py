"""The pool of all instances of a run. It lives in the supervisor; test processes ask it for leases.

One process owns all instances. So tests in different workers share an instance, a worker that dies leaves nothing
behind, and the workers need not agree before an instance is destroyed. The pool acts;
:class:`~pytest_vastgpu.supervisor.pool.planner.PoolPlanner` decides what to rent and what to give back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.costs import InstanceCost
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.reporting.costs import accounts
from pytest_vastgpu.reporting.costs import spent
from pytest_vastgpu.reporting.sentences import workload_line
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.workloads import checked
from pytest_vastgpu.settings import Settings
from pytest_vastgpu.supervisor.money.budget import BudgetSpent
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.planner import LeaseRequest
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner
from pytest_vastgpu.supervisor.pool.planner import Slot
from pytest_vastgpu.supervisor.pool.provisioner import Provisioner
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry
from pytest_vastgpu.supervisor.rental import loss
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.waits import Wanted

TELL_AFTER_S = 1.0
"""A test that waits for longer than this is reported."""
ANOTHER = "the next test that needs it gets another instance"
_PULSE_S = 0.05
"""Pause between two checks whether a waiting test process is still connected."""


class InstancePool:
    """Rents instances, shares them between tests, and gives them back. Thread-safe.

    :param record_lost: Called for each instance that was lost while in use.
    :param fits: Whether an offer that the run has taken would also satisfy a workload.
    :param tell: Writes a line for people.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        settings: Settings,
        record_lost: Callable[[Attempt, Workload], None],
        fits: Callable[[Workload, Offer], bool],
        tell: Callable[[str], None],
        timeouts: Timeouts,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self.registry = RentalRegistry(settings.max_lifetime, self._lifetime_over, clock)
        """All rentals of the run."""
        self._provisioner: Provisioner | None = None
        self._adapters = adapters
        self._max_lifetime_s = settings.max_lifetime
        self._record_lost = record_lost
        self._fits = fits
        self._tell = tell
        self._changed = threading.Condition()
        """Its lock guards the planner, the list of threads and what was told. Every change notifies it."""
        self._planner = PoolPlanner(settings.max_instances, clock.monotonic)
        self._told: dict[Workload, int] = {}
        self._threads: list[threading.Thread] = []
        self._reviving: set[int] = set()
        """The slots whose server a thread looks at, or starts again."""
        self._closed = False
        """Whether no test gets an instance any more. Tests that have one may still use it."""
        self._closing = False
        """Whether all instances are being given back."""

    def open(self, provisioner: Provisioner) -> None:
        """Start renting, with this provisioner."""
        self._provisioner = provisioner

    # ---------------------------------------------------------------- leases

    def acquire(self, test: str, workload: Workload, exclusive: bool, process: str, gone: Callable[[], bool]) -> str:
        """Wait for an instance for a test; returns its label. See :meth:`Leases.acquire`.

        :param process: The process that runs the test.
        :param gone: Whether that process has hung up, so that it no longer waits for the answer.
        """
        self._check([workload])
        ask = LeaseRequest(process, test, workload, exclusive, since=self._clock.monotonic())
        tell_at = self._clock.monotonic() + TELL_AFTER_S
        with self._changed:
            self._planner.ask(ask)
        try:
            while (label := self._next(ask)) is None:
                if gone():
                    raise Cancelled
                if self._clock.monotonic() >= tell_at:
                    self._tell_waiting(ask)
        finally:
            with self._changed:
                self._planner.withdraw(ask)
                if all(other.workload != workload for other in self._planner.asks):
                    self._told.pop(workload, None)
                self._act()
        return label

    def done(self, test: str, process: str) -> None:
        """See :meth:`Leases.done`."""
        with self._changed:
            self._planner.done(process, test)
            self._act()

    def release(self, label: str) -> None:
        """See :meth:`Leases.release`."""
        with self._changed:
            self._retire(label)

    def spent(self, test: str) -> float:
        """See :meth:`Leases.spent`."""
        return float(spent(test, self.registry.bills(), self.uses))

    def fate(self, label: str, mark: Mark) -> Fate | None:
        """See :meth:`InstanceCalls.fate`."""
        rental = self.registry[label]
        server = rental.servers[mark.start]
        if server.end is None and self._in_use(rental):
            found = rental.look(mark)
            if isinstance(found, Verdict):
                self._lose(rental, found)
            elif found is not None and found.verdict.failure_class.blames_machine:
                self._lose(rental, found.verdict)
        if server.end is not None:
            return server.end.fate(mark, self._then(rental))
        lost = rental.cut_short
        return Fate("the instance was lost while the test used it", lost, True, ANOTHER) if lost else None

    # ---------------------------------------------------------------- the run

    def expect(self, tests: Mapping[str, Expected], workers: int = 1) -> None:
        """Take the tests that will ask for instances, and begin to rent in the background.

        :param workers: How many tests run at a time.
        :raises ConfigurationError: if a workload names an unknown adapter.
        """
        self._check(expected.workload for expected in tests.values() if expected.workload is not None)
        with self._changed:
            self._planner.workers = workers
            self._planner.demand.expect(tests)
            self._act()

    def may_ask(self, tests: Iterable[str]) -> None:
        """See :meth:`Leases.may_ask`."""
        with self._changed:
            self._planner.demand.expect({test: Expected(None, certain=False) for test in tests})

    def finished(self, test: str, process: str = "") -> None:
        """A test is over, with all its tries: give back what no test needs any more.

        :param process: The process that has run it; empty if it is gone.
        """
        with self._changed:
            self._planner.done(process, test)
            self._planner.demand.finished(test, process)
            self._act()

    def crashed(self, test: str, over: bool) -> None:
        """See :meth:`RunControl.crashed`."""
        for use in self.uses:
            if use.test == test:
                self.registry[use.label].fails()
        if over:
            self.finished(test)

    def hung_up(self, process: str) -> None:
        """A test process has hung up or died: its tests no longer use any instance."""
        with self._changed:
            self._planner.done(process)
            self._act()

    @property
    def uses(self) -> list[Use]:
        """Which test has used which instance, and from when to when."""
        with self._changed:
            return self._planner.uses()

    @property
    def problems(self) -> list[str]:
        """One line for each instance that could not be destroyed, with the command that does it."""
        return self.registry.problems

    def wanted(self) -> list[Wanted]:
        """The workloads for which tests wait."""
        with self._changed:
            asks = list(self._planner.asks)
        return [
            Wanted(
                workload,
                self._name(workload),
                min(ask.since for ask in asks if ask.workload == workload),
                any(ask.lacks_room for ask in asks if ask.workload == workload),
            )
            for workload in dict.fromkeys(ask.workload for ask in asks)
        ]

    def attempts(self) -> list[Attempt]:
        """Every attempt of the run, in order, each with its cost so far."""
        return self.registry.attempts()

    def books(self) -> list[InstanceCost]:
        """The cost of each instance so far, and each test's share of it."""
        return accounts(self.attempts(), self.registry.bills(), self.uses)

    def call_off(self) -> None:
        """Hand out no more instances, and cancel all bring-ups."""
        with self._changed:
            self._closed = True
            for slot in self._planner.slots.values():
                slot.cancel.cancel()
            self._changed.notify_all()

    def close(self) -> None:
        """Give all instances back and wait until they are gone. Idempotent; :attr:`problems` lists what is left."""
        self.call_off()
        with self._changed:
            self._closing = True
            threads = list(self._threads)
        self.registry.close()
        ends = self._clock.monotonic() + self._timeouts.close_within_s
        ready = [rental for rental in self.registry.alive() if rental.state is State.READY]
        destroyers = self._destroy(ready)
        # Bring-ups give back what they have rented. One that is stuck in a wait is not waited for.
        self._join(threads, self._clock.monotonic() + self._timeouts.call_off_s)
        destroyers += self._destroy(rental for rental in self.registry.alive() if rental not in ready)
        self._join(destroyers, ends)

    def waits_for(self) -> list[str]:
        """What the end of the run waits for, one line for each instance that is not gone."""
        return [
            (f"instance {rental.instance_id}" if rental.instance_id else f"attempt {rental.nth} of {rental.purpose}")
            + (f" ({rental.resists})" if rental.resists else "")
            for rental in self.registry.alive()
            if rental.instance_id or rental.unsettled
            if rental.state is not State.KEPT
        ]

    # ---------------------------------------------------------------- plumbing

    def _check(self, workloads: Iterable[Workload]) -> None:
        """Check workloads, and hide their secrets in all that is told from now on.

        :raises ConfigurationError: one line: what is wrong.
        """
        for workload in workloads:
            KNOWN.add_workload(workload)
            checked(workload)
            if workload.adapter not in self._adapters:
                known = ", ".join(nearest_first(workload.adapter, sorted(self._adapters)))
                raise ConfigurationError(
                    f"no adapter is called {workload.adapter!r}; there are: {known} (a conftest file that brings one "
                    "must be in a directory named on the command line, or in the root directory)"
                )

    def _next(self, ask: LeaseRequest) -> str | None:
        """The label of an instance for a test; None where there is still none after a short wait."""
        with self._changed:
            if self._closed:
                raise Cancelled
            self._act()
            slot = self._planner.answer(ask)
            if slot is None:
                self._changed.wait(_PULSE_S)
                return None
            return slot.label

    def _act(self) -> None:
        """Carry out the planner's decisions. The caller holds the lock."""
        if self._closed or self._provisioner is None:
            return
        for slot in self._planner.about_to_be_shared():
            if self.registry[slot.label].doubtful:
                self._planner.doubt(slot)
                self._reviving.add(slot.number)
                self._background(self._revive, slot, f"vastgpu-revive-{slot.label}")
        starts, ends = self._planner.plan()
        for slot in starts:
            self._background(self._provision, slot, f"vastgpu-rent-{slot.number}")
        for slot in ends:
            self._end(slot)

    def _end(self, slot: Slot) -> None:
        if slot.label and slot.number not in self._reviving:
            self._background(self._give_back, slot, f"vastgpu-destroy-{slot.label}")
        else:
            slot.cancel.cancel()  # the thread that brings it up, or revives it, then gives it back

    def _retire(self, label: str) -> None:
        """Give an instance back, so that no test gets it any more. The caller holds the lock."""
        slot = self._planner.of(label)
        if slot is not None and not self._closing:
            self._planner.retire(slot)
            self._end(slot)
            self._act()

    def too_dear(self, rental: Rental) -> None:
        """Let no new test get an instance; tests that use it may finish. See :mod:`price_watch`."""
        with self._changed:
            slot = self._planner.of(rental.label)
            if slot is not None and not self._closed:
                self._planner.leave(slot)
                self._act()

    def end(self, rental: Rental) -> None:
        """Give an instance back now that has become too dear, even if a test uses it."""
        self._cut_short(rental, loss.became_too_dear(rental.too_dear))

    def _lifetime_over(self, rental: Rental) -> None:
        self._cut_short(rental, loss.lifetime_over(self._max_lifetime_s))

    def _cut_short(self, rental: Rental, verdict: Verdict) -> None:
        with self._changed:
            if self._in_use(rental):  # a bring-up checks such things itself
                rental.cuts_short(verdict)
                self._retire(rental.label)

    def _in_use(self, rental: Rental) -> bool:
        """Whether tests may use an instance: it has been ready, and nothing has begun to give it back."""
        with self._changed:
            return self._planner.of(rental.label) is not None and not self._closing and rental.cut_short is None

    def _lose(self, rental: Rental, verdict: Verdict) -> None:
        """End an instance that was lost, or is of no use any more."""
        machines = verdict.failure_class.blames_machine
        with self._changed:
            if not self._in_use(rental):
                return
            rental.cuts_short(verdict)
            if machines and self._provisioner is not None:
                self._provisioner.avoid(rental.offer.machine_id)
            try:
                attempt = rental.finish(verdict)
                self.registry.ended(rental, attempt)
            finally:
                self._retire(rental.label)
        if machines or verdict.failure_class is FailureClass.OWN_FAULT:  # else its machine did what it should
            try:
                self._record_lost(attempt, rental.workload)
            except Exception as error:  # noqa: BLE001 - also without a record it is lost, and tests wait for another
                rental.tell(f"its loss is not recorded: {type(error).__name__}: {error}")

    def _then(self, rental: Rental) -> str:
        """What the next test gets after the server of an instance has ended."""
        with self._changed:
            slot = self._planner.of(rental.label)
        if slot is not None and slot.owner is not None:
            return "the instance is this test's own, and its server is not started again"
        if rental.cut_short is not None or rental.restarted:
            return ANOTHER
        return "the next test that needs it gets the server started again, on the same instance"

    def _revive(self, slot: Slot) -> None:
        """See whether the server of an instance serves; start it again, or end an instance that is of no more use."""
        assert self._provisioner is not None  # noqa: S101 - the pool rents nothing before open()
        rental = self.registry[slot.label]
        try:
            useless = self._provisioner.revive(rental, self._adapters[slot.workload.adapter], slot.cancel)
        except Cancelled:
            useless = None
        except BaseException as error:  # noqa: BLE001 - the next bring-up of the workload raises it again
            text = f"{type(error).__name__}: {error}"
            rental.tell(f"its server cannot be looked at, or not started again: {text}")
            useless = Verdict(FailureClass.UNKNOWN, "restart_failed", text, "another host would do")
        try:
            if useless is not None:
                self._lose(rental, useless)
        finally:
            with self._changed:
                self._reviving.discard(slot.number)
                if slot.phase is SlotPhase.ENDING:
                    self._end(slot)
                else:
                    self._planner.arrived(slot, slot.label)
                self._act()
                self._changed.notify_all()

    def _provision(self, slot: Slot) -> None:
        assert self._provisioner is not None  # noqa: S101 - the pool rents nothing before open()
        error: BaseException | None = None
        rental: Rental | None = None
        try:
            rental = self._provisioner.provision(slot.workload, self._adapters[slot.workload.adapter], slot.cancel)
        except Cancelled:
            pass
        except BaseException as failed:  # noqa: BLE001 - raised in the tests that wait for it
            error = failed
        scarce = error is not None and self._scarce(slot.workload, error)
        with self._changed:
            if rental is not None:
                self._planner.arrived(slot, rental.label)
                if slot.phase is SlotPhase.ENDING:  # cancelled after it became ready
                    self._end(slot)
            elif error is None or slot.phase is SlotPhase.ENDING:
                self._planner.gone(slot)
            else:
                self._planner.failed(slot, error, scarce)
            self._act()
            self._changed.notify_all()

    def _scarce(self, workload: Workload, error: BaseException) -> bool:
        """Whether the error is for lack of what this run's other instances hold: budget, or the suitable machines."""
        if isinstance(error, BudgetSpent):
            return True
        if not isinstance(error, NoOffers) and not (isinstance(error, ProvisioningFailed) and not error.attempts):
            return False
        try:
            return any(rental.instance_id and self._fits(workload, rental.offer) for rental in self.registry.alive())
        except VastGpuError:  # the reputation cannot be read now; report the first error
            return False

    def _give_back(self, slot: Slot) -> None:
        self.registry.give_back(self.registry[slot.label])
        with self._changed:
            self._planner.gone(slot)
            self._act()
            self._changed.notify_all()

    def _tell_waiting(self, ask: LeaseRequest) -> None:
        """Report, in one line, all tests that wait for the same workload; again when their number grows."""
        with self._changed:
            same = [other for other in self._planner.asks if other.workload == ask.workload]
            if len(same) <= self._told.get(ask.workload, 0):
                return
            self._told[ask.workload] = len(same)
        who = f"{ask.test} waits" if len(same) == 1 else f"{len(same)} tests wait"
        room = ", and for another instance to be given back before" if ask.lacks_room else ""
        self._tell(f"{who} for {self._name(ask.workload)}{room}")

    def _name(self, workload: Workload) -> str:
        return self._provisioner.names[workload] if self._provisioner is not None else workload_line(workload)

    def _destroy(self, rentals: Iterable[Rental]) -> list[threading.Thread]:
        """Begin to give instances back; a thread waits where another gives the same one back already."""
        threads = [
            threading.Thread(
                target=self.registry.give_back, args=(rental,), name=f"vastgpu-destroy-{rental.label}", daemon=True
            )
            for rental in rentals
        ]
        for thread in threads:
            thread.start()
        return threads

    def _join(self, threads: list[threading.Thread], ends: float) -> None:
        for thread in threads:
            thread.join(max(0.0, ends - self._clock.monotonic()))

    def _background(self, work: Callable[[Slot], None], slot: Slot, name: str) -> None:
        thread = threading.Thread(target=work, args=(slot,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
