"""What becomes of instances that tests use: lost, too dear, at the end of their life, or without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.words import words
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry
from pytest_vastgpu.supervisor.rental import loss
from pytest_vastgpu.supervisor.rental.rental import Rental

ANOTHER = "the next test that needs it gets another instance"


class Executor(Protocol):
    """See :class:`~pytest_vastgpu.supervisor.pool.executor.PlanExecutor`."""

    def act(self) -> None:
        """Carry out what the planner decides now."""
        ...

    def retire(self, label: str) -> None:
        """Give an instance back, so that no test gets it any more."""
        ...

    def avoid(self, machine_id: int) -> None:
        """Do not rent this machine again."""
        ...


class Losses:
    """Takes instances away from the tests that use them, and says why. Thread-safe.

    :param lock: Guards the planner.
    :param executor: Carries out what follows; it is called with the lock.
    :param record: Called for each instance that was lost while in use.
    :param max_lifetime_s: Seconds to the hard end of an instance's life, for its verdict.
    """

    def __init__(
        self,
        lock: threading.Condition,
        planner: PoolPlanner,
        registry: RentalRegistry,
        executor: Executor,
        record: Callable[[Attempt, Workload], None],
        max_lifetime_s: float,
    ) -> None:
        self._lock = lock
        self._planner = planner
        self._registry = registry
        self._executor = executor
        self._record = record
        self._max_lifetime_s = max_lifetime_s
        self.closing = False
        """Whether all instances are being given back, so that nothing is lost any more."""

    def fate(self, label: str, mark: Mark) -> Fate | None:
        """See :meth:`InstanceCalls.fate`."""
        rental = self._registry[label]
        server = rental.servers[mark.start]
        if server.end is None and self._in_use(rental):
            found = rental.look(mark)
            if isinstance(found, Verdict):
                self.lose(rental, found)
            elif found is not None and found.verdict.failure_class.blames_machine:
                self.lose(rental, found.verdict)
        lost = rental.cut_short
        if server.end is not None and server.end.by_test:
            if lost is None:
                return None
            excuses = lost.failure_class.blames_machine  # else the test has wanted what cannot be had
            return Fate("the server that the test wanted did not start", lost, excuses, ANOTHER, rental.log)
        if server.end is not None:
            return server.end.fate(mark, self._then(rental))
        if lost is None:
            return None
        artifacts = self._registry.artifacts(label)
        return Fate("the instance was lost while the test used it", lost, True, ANOTHER, artifacts=artifacts)

    def too_dear(self, rental: Rental) -> None:
        """Let no new test get an instance; tests that use it may finish. See :mod:`.price_monitor`."""
        with self._lock:
            slot = self._planner.of(rental.label)
            if slot is not None and not self.closing:
                self._planner.leave(slot)
                self._executor.act()

    def end(self, rental: Rental) -> None:
        """Give an instance back now that has become too dear, even if a test uses it."""
        self._cut_short(rental, loss.became_too_dear(rental.cost.too_dear))

    def lifetime_over(self, rental: Rental) -> None:
        """Give an instance back that has reached the hard end of its life."""
        self._cut_short(rental, loss.lifetime_over(self._max_lifetime_s))

    def lose(self, rental: Rental, verdict: Verdict) -> None:
        """End an instance that was lost, or is of no use any more."""
        machines = verdict.failure_class.blames_machine
        with self._lock:
            if not self._in_use(rental):
                return
            rental.cuts_short(verdict)
            if machines:
                self._executor.avoid(rental.offer.machine_id)
            try:
                attempt = rental.finish(verdict)
                self._registry.ended(rental, attempt)
            finally:
                self._executor.retire(rental.label)
        if machines or verdict.failure_class is FailureClass.OWN_FAULT:  # else its machine did what it should
            try:
                self._record(attempt, rental.workload)
            except Exception as error:  # noqa: BLE001 - also without a record it is lost, and tests wait for another
                rental.tell(f"its loss is not recorded: {type(error).__name__}: {error}")

    def _cut_short(self, rental: Rental, verdict: Verdict) -> None:
        with self._lock:
            if self._in_use(rental):  # a bring-up checks such things itself
                rental.cuts_short(verdict)
                self._executor.retire(rental.label)

    def _in_use(self, rental: Rental) -> bool:
        """Whether tests may use an instance: it has been ready, and nothing has begun to give it back."""
        with self._lock:
            return self._planner.of(rental.label) is not None and not self.closing and rental.cut_short is None

    def _then(self, rental: Rental) -> str:
        """What the next test gets after the server of an instance has ended."""
        with self._lock:
            slot = self._planner.of(rental.label)
        if slot is not None and slot.owner is not None:
            return "the instance is this test's own, and its server is not started again"
        if rental.cut_short is not None or rental.restarted:
            return ANOTHER
        return words(rental.workload).then
