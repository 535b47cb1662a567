"""The pool of all instances that a supervisor has. Test processes ask it for leases.

One process owns all instances. So tests in different workers, and runs at the same time or one after another, share an
instance, a worker that dies leaves nothing behind, and the workers need not agree before an instance is destroyed. The
pool acts; :class:`~pytest_vastgpu.supervisor.pool.planner.PoolPlanner` decides what to rent and what to give back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import replace

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.clock import Repeated
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.reporting.sentences import workload_line
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import require_adapter
from pytest_vastgpu.servers.files import require_room
from pytest_vastgpu.servers.host import alike
from pytest_vastgpu.servers.listing import brought_by
from pytest_vastgpu.servers.workloads import checked
from pytest_vastgpu.settings import Settings
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.pool.books import Books
from pytest_vastgpu.supervisor.pool.executor import PlanExecutor
from pytest_vastgpu.supervisor.pool.own_hosts import OwnHosts
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.planner import LeaseRequest
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner
from pytest_vastgpu.supervisor.pool.planner import Slot
from pytest_vastgpu.supervisor.pool.provisioner import Provisioner
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.waits import Wanted

TELL_AFTER_S = 1.0
"""A test that waits for longer than this is reported."""
WARM_LOOK_S = 1.0
"""Pause between two checks whether an instance has been warm, and unused, for too long."""
_GONE_LOOK_S = 0.05
"""Pause between two checks whether everything is gone."""
_PULSE_S = 0.05
"""Pause between two checks whether a waiting test process is still connected."""


class InstancePool:
    """Rents instances, shares them between tests, and gives them back. Thread-safe.

    :param adapters: The adapters of the runs that there are, by name.
    :param budgets: Who pays for which instance.
    :param record_lost: Called for each instance that was lost while in use.
    :param fits: Whether an offer that was taken would also satisfy a workload.
    :param tell: Writes a line for people.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        settings: Settings,
        budgets: RunBudgets,
        record_lost: Callable[[Attempt, Workload], None],
        fits: Callable[[Workload, Offer], bool],
        tell: Callable[[str], None],
        timeouts: Timeouts,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self.registry = RentalRegistry(settings.max_lifetime, lambda rental: self.losses.lifetime_over(rental), clock)
        """All rentals."""
        self._names: WorkloadNames | None = None
        self._adapters = adapters
        self._budgets = budgets
        self._tell = tell
        self._changed = threading.Condition()
        """Its lock guards the planner, the threads and what was told. Every change notifies it."""
        self._planner = PoolPlanner(settings.max_instances, clock.monotonic)
        self._own_hosts = OwnHosts()
        self._executor = PlanExecutor(
            self._changed,
            self._planner,
            self.registry,
            adapters,
            budgets,
            record_lost,
            fits,
            settings,
            clock,
        )
        self.losses = self._executor.losses
        """What becomes of instances in use."""
        self.books = Books(self.registry, budgets, lambda: self.uses)
        self._told: dict[Workload, int] = {}
        self._hung_up: set[str] = set()
        """The test processes that have hung up or died."""
        self._fitting: set[object] = set()
        """Those whose files have been looked through."""
        self._recorded_uses = 0
        """Of how many uses that are over the events tell."""
        self._closed = False
        """Whether no test gets an instance any more. Tests that have one may still use it."""
        self._ageing: Repeated | None = None

    def open(self, provisioner: Provisioner) -> None:
        """Start renting, with this provisioner."""
        self._executor.open(provisioner)
        self._names = provisioner.names

    # ------------------------------------------------------------------ runs

    def join(self, run: str, workers: int = 1, warm_s: float = 0.0) -> None:
        """A run begins.

        :param workers: How many of its tests run at a time.
        :param warm_s: Seconds that an instance may wait unused for the next run.
        """
        with self._changed:
            if not self._planner.runs:
                self._executor.begin_anew()
            self._planner.join(run, workers, warm_s)
            if warm_s and self._ageing is None:
                self._ageing = self._clock.repeat("vastgpu-warm", self._age, WARM_LOOK_S)

    def expect(self, run: str, tests: Mapping[str, Expected]) -> None:
        """Take the tests that will ask for instances, and begin to rent in the background.

        :raises ConfigurationError: if a workload names an unknown adapter.
        """
        self._check({test: expected.workload for test, expected in tests.items() if expected.workload is not None})
        with self._changed:
            self._planner.runs[run].expect({test: self._own(run, expected) for test, expected in tests.items()})
            self._executor.act()

    def may_ask(self, run: str, tests: Iterable[str]) -> None:
        """See :meth:`Leases.may_ask`."""
        self.expect(run, {test: Expected(None, certain=False) for test in tests})

    def hosts_wanted(self, workload: Workload) -> int:
        """How many workloads of hosts like this one are wanted, this one included."""
        with self._changed:
            return sum(alike(each) == alike(workload) for each, tests in self._planner.runs.pending.items() if tests)

    def finished(self, run: str, test: str, process: str = "") -> None:
        """A test is over, with all its tries: give back what no test needs any more.

        :param process: The process that has run it; empty if it is gone.
        """
        with self._changed:
            self._planner.done(process, test)
            self._record_uses()
            self._planner.runs[run].finished(test, process)
            self._executor.act()

    def crashed(self, run: str, test: str, over: bool) -> None:
        """See :meth:`RunControl.crashed`."""
        for use in self.uses:
            if use.test == test and use.run == run:
                self.registry[use.label].fails()
        if over:
            self.finished(run, test)

    def hung_up(self, process: str) -> None:
        """A test process has hung up or died: its tests no longer use any instance."""
        with self._changed:
            self._hung_up.add(process)
            self._planner.done(process)
            self._record_uses()
            self._executor.act()

    def call_off(self, run: str) -> None:
        """Hand out no more instances to a run, and cancel the bring-ups that no other run needs."""
        with self._changed:
            self._planner.call_off(run)
            self._executor.act()
            self._changed.notify_all()

    def leave(self, run: str) -> None:
        """A run is over. What it pays for waits for the next run, if there is money for that, or is given back."""
        with self._changed:
            self._planner.over(run)
            self._own_hosts.over(run)
            for slot in list(self._planner.slots.values()):
                self._executor.pass_on(slot)
            self._executor.act()
            self._changed.notify_all()

    def gives_back(self, run: str) -> bool:
        """Whether something is being given back that a run has left, which is over."""
        with self._changed:
            return any(
                slot.run == run and not self._waits_for_a_run(slot) and not slot.holds
                for slot in self._planner.slots.values()
            )

    def left_by(self, run: str) -> list[Rental]:
        """What a run that is over pays for, and that neither waits for another one, nor is used by one."""
        with self._changed:
            used = {slot.label for slot in self._planner.slots.values() if self._waits_for_a_run(slot) or slot.holds}
        return [
            rental
            for rental in self.registry.alive()
            if rental.label not in used and self._budgets.payer(rental.label) == run
            if rental.may_cost
        ]

    @property
    def is_of_no_use(self) -> bool:
        """Whether nothing waits for a run, or something is left that only the end of the pool tries to give back."""
        with self._changed:
            phases = {slot.phase for slot in self._planner.slots.values()}
        if phases - {SlotPhase.WARM}:
            return False
        return not phases or bool(self.problems) or any(rental.unsettled for rental in self.registry.alive())

    def warm(self) -> list[tuple[Rental, float, float]]:
        """The instances that wait for the next run: for how many seconds already, and for how many more at most."""
        with self._changed:
            now = self._clock.monotonic()
            return [
                (
                    rental,
                    now - slot.unused_since,
                    min(slot.unused_since + slot.warm_s - now, rental.cost.remaining_life_s),
                )
                for slot in self._planner.slots.values()
                if self._waits_for_a_run(slot) and not self._closed
                for rental in [self.registry[slot.label]]
            ]

    # ---------------------------------------------------------------- leases

    def acquire(
        self,
        run: str,
        test: str,
        workload: Workload,
        exclusive: bool,
        process: str,
        gone: Callable[[], bool],
        other_than: frozenset[int] = frozenset(),
        alone: bool = False,
    ) -> str:
        """Wait for an instance for a test; returns its label. See :meth:`Leases.acquire`.

        :param process: The process that runs the test.
        :param gone: Whether that process has hung up, so that it no longer waits for the answer.
        :param other_than: Machines that an exclusive instance must not be on.
        :param alone: Whether no other test may use a shared instance at the same time.
        """
        self._check({test: workload})
        tell_at = self._clock.monotonic() + TELL_AFTER_S
        with self._changed:
            workload = self._own_hosts.of(run, workload)
            since = self._clock.monotonic()
            ask = LeaseRequest(process, test, workload, exclusive, run, since=since, other_than=other_than, alone=alone)
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
                self._executor.act()
        if workload.adapter != HOST:
            waited_s = round(self._clock.monotonic() - since, 3)
            self.registry[label].record(f"{test} uses it", test=test, run=run, use="begins", waited_s=waited_s)
        return label

    def done(self, test: str, process: str) -> None:
        """See :meth:`Leases.done`."""
        with self._changed:
            self._planner.done(process, test)
            self._record_uses()
            self._executor.act()

    def release(self, label: str) -> None:
        """See :meth:`Leases.release`."""
        with self._changed:
            self._executor.retire(label)

    def apart(self, one: Workload, other: Workload) -> str:
        """See :meth:`Leases.apart`."""
        self._check({"the baseline": one, "the candidate": other})
        return self._executor.apart(one, other)

    def clash(self, one: Workload, other: Workload) -> str:
        """See :meth:`Leases.clash`."""
        self._check({"the baseline": one, "the candidate": other})
        return self._executor.clash(one, other)

    def serve(self, label: str, workload: Workload, *, beside: bool = False) -> None:
        """See :meth:`InstanceCalls.serve`, and :meth:`InstanceCalls.serve_beside`."""
        self._check({"serve": workload})
        self._executor.serve(label, workload, beside=beside)

    # --------------------------------------------------------------- reports

    @property
    def uses(self) -> list[Use]:
        """Which test has used which instance, and from when to when."""
        with self._changed:
            return self._planner.uses()

    @property
    def problems(self) -> list[Alive]:
        """One line for each instance that could not be destroyed, with the command that does it."""
        return self.registry.problems

    def wanted(self, run: str) -> list[Wanted]:
        """The workloads for which tests of a run wait."""
        with self._changed:
            asks = [ask for ask in self._planner.asks if ask.run == run]
        return [
            Wanted(
                workload,
                self._name(workload),
                min(ask.since for ask in asks if ask.workload == workload),
                any(ask.lacks_room for ask in asks if ask.workload == workload),
            )
            for workload in dict.fromkeys(ask.workload for ask in asks)
        ]

    def waits_for(self, rentals: Iterable[Rental] | None = None) -> list[str]:
        """What giving back waits for, one line for each instance that is not gone.

        :param rentals: None: all.
        """
        return [
            (f"instance {rental.instance_id}" if rental.instance_id else f"attempt {rental.nth} of {rental.purpose}")
            + (f" ({rental.resists})" if rental.resists else "")
            for rental in (self.registry.alive() if rentals is None else rentals)
            if rental.may_cost
        ]

    # --------------------------------------------------------------- the end

    def close(self) -> None:
        """Give all instances back and wait until they are gone. Idempotent; :attr:`problems` lists what is left."""
        with self._changed:
            self._closed = True
            threads = self._executor.close()
            ageing, self._ageing = self._ageing, None
        if ageing is not None:
            ageing.stop()
        self.registry.close()
        ends = self._clock.monotonic() + self._timeouts.close_within_s
        ready = [rental for rental in self.registry.alive() if rental.state is State.READY]
        destroyers = self._destroy(ready)
        # Bring-ups give back what they have rented. One that is stuck in a wait is not waited for.
        self._join(threads, self._clock.monotonic() + self._timeouts.call_off_s)
        destroyers += self._destroy(rental for rental in self.registry.alive() if rental not in ready)
        # Once everything is gone, a thread that goes on does nothing any more that matters.
        while self.waits_for() and any(map(threading.Thread.is_alive, destroyers)) and self._clock.monotonic() < ends:
            self._join(destroyers, min(ends, self._clock.monotonic() + _GONE_LOOK_S))
        self._join(destroyers, min(ends, self._clock.monotonic() + self._timeouts.leave_s))

    # ---------------------------------------------------------------- plumbing

    def _waits_for_a_run(self, slot: Slot) -> bool:
        """Whether an instance is warm, or will be once the look at it is over, which nobody waits for any more."""
        if slot.phase is SlotPhase.CHECKING:
            return bool(slot.label) and self._budgets.payer(slot.label) not in self._planner.runs
        return slot.phase is SlotPhase.WARM

    def _own(self, run: str, expected: Expected) -> Expected:
        if expected.workload is None:
            return expected
        return replace(expected, workload=self._own_hosts.of(run, expected.workload))

    def _check(self, workloads: Mapping[str, Workload]) -> None:
        """Check workloads, by the tests that use them, and hide their secrets in all that is told from now on.

        :raises ConfigurationError: one line: what is wrong.
        """
        for test, workload in workloads.items():
            KNOWN.add_workload(workload)
            checked(workload)
            require_adapter(workload.adapter, self._adapters, test)
            brings = (workload.files, workload.listing, workload.disk_gb)
            if brings not in self._fitting:
                require_room(brought_by(workload), workload.disk_gb)
                self._fitting.add(brings)

    def _next(self, ask: LeaseRequest) -> str | None:
        """The label of an instance for a test; None where there is still none after a short wait."""
        with self._changed:
            # Of a process that has hung up, a request may be on its way: nobody would say that its test is over.
            if self._closed or ask.run not in self._planner.runs or ask.process in self._hung_up:
                raise Cancelled
            self._executor.act()
            slot = self._planner.answer(ask)
            if slot is None:
                self._changed.wait(_PULSE_S)
                return None
            return slot.label

    def _age(self) -> float | None:
        """Give back what has been warm for too long."""
        with self._changed:
            self._executor.act()
        return None if self._closed else WARM_LOOK_S

    def _record_uses(self) -> None:
        """Write events of the uses that are over since the last time."""
        ended = self._planner.ended_uses(self._recorded_uses)
        self._recorded_uses += len(ended)
        for use in ended:
            seconds = round(use.end - use.start, 3)
            text = f"{use.test} has used it"
            self.registry[use.label].record(text, test=use.test, run=use.run, use="ends", seconds=seconds)

    def _tell_waiting(self, ask: LeaseRequest) -> None:
        """Report, in one line, all tests that wait for the same workload; again when their number grows."""
        with self._changed:
            same = [other for other in self._planner.asks if other.workload == ask.workload]
            if len(same) <= self._told.get(ask.workload, 0):
                return
            self._told[ask.workload] = len(same)
        what = self._name(ask.workload)
        if ask.test == what:  # no test waits, but the run, for one of its hosts
            if ask.lacks_room:
                self._tell(f"{what} waits for another instance to be given back")
            return
        who = f"{ask.test} waits" if len(same) == 1 else f"{len(same)} tests wait"
        room = ", and for another instance to be given back before" if ask.lacks_room else ""
        self._tell(f"{who} for {what}{room}")

    def _name(self, workload: Workload) -> str:
        return self._names[workload] if self._names is not None else workload_line(workload)

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
