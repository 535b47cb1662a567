"""What a supervisor rents with, the pytest runs that use it, and its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path

from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.events import EventLog
from pytest_vastgpu.core.events import Listener
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.reporting.cost_file import CostFile
from pytest_vastgpu.reporting.waiting import Waiting
from pytest_vastgpu.supervisor.cleanup.account_key import take_out_key
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.guard import Guard
from pytest_vastgpu.supervisor.cleanup.recover import LATE_CREATE_S
from pytest_vastgpu.supervisor.cleanup.recover import recover
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from pytest_vastgpu.supervisor.ledger.run_directory import owned
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.pool.pool import InstancePool
from pytest_vastgpu.supervisor.rental.keep import Keeper
from pytest_vastgpu.supervisor.waits import MarketWaits
from pytest_vastgpu.supervisor.waits import WaitReports

LEFT_LOOK_S = 0.05
"""Pause between two checks whether what a run has left is gone."""
_PROCESSES = "its processes"


@dataclass
class Run:
    """What a supervisor rents with. See :func:`.composition.open_run`.

    The pytest run that started the supervisor joins it, and with ``--vast-reuse`` later ones do.
    """

    pool: InstancePool
    access: InstanceAccess
    id: str
    """Part of every label; the id of the first pytest run."""
    directory: Path
    account: str
    """Identity of the account on the market."""
    url: str
    """The market's base URL."""
    embedded: bool
    """Whether the market belongs to this supervisor, and ends with it."""
    budgets: RunBudgets
    waits: MarketWaits
    """The calls that wait for the market's limits now."""
    cleaner: Provider
    cleaning: CancelToken
    """Ends every call of the cleaner."""
    events: EventLog
    keeper: Keeper
    timeouts: Timeouts
    clock: Clock
    ledger: Ledger
    ending: CancelToken
    guard: Guard | None
    """None where the market ends with this supervisor."""
    closing: contextlib.ExitStack
    lock: threading.RLock = field(default_factory=threading.RLock)
    over: bool = False
    costs: dict[str, CostFile] = field(default_factory=dict)
    """The cost file of each pytest run, by its id. What it pays for may cost it something after its end."""
    joined: dict[str, contextlib.ExitStack] = field(default_factory=dict)
    """What ends with each pytest run, by its id."""
    _step: str = _PROCESSES

    def join(
        self,
        opening: Opening,
        directory: Path,
        listener: Listener,
        show: Callable[[Sequence[Waiting]], None] = lambda _: None,
    ) -> None:
        """A pytest run begins.

        :param directory: Its own directory.
        :param listener: Called with every event.
        :param show: Called with what its tests wait for, about once a second.
        :raises ConfigurationError: if its directory cannot be used.
        """
        run, settings = opening.run, opening.settings
        with contextlib.ExitStack() as stack:
            self.events.listen(listener)
            stack.callback(self.events.unlisten, listener)
            if directory != self.directory:  # the first run's records are the supervisor's own
                if self.guard is not None:  # it may use what is there, and rent nothing
                    self.guard.ensure()
                stack.enter_context(owned(directory))
                with contextlib.closing(Ledger(directory)) as ledger:
                    ledger.begin(run, self.account, self.url, embedded=self.embedded, started_in=opening.directory)
                own = EventLog(directory)
                self.events.listen(own.write)
                stack.callback(self.events.unlisten, own.write)
            # Every limit is the supervisor's; only the money is the run's own.
            self.budgets.join(run, Budget(settings.budget, settings.longest_life, self.clock.monotonic))
            head = {"run": run, "market": self.url, "budget_usd": settings.budget}
            costs = self.costs[run] = CostFile(directory, head, lambda: self.pool.books.of(run), self.tell)
            stack.callback(costs.write)
            self.pool.join(run, opening.workers, settings.reuse)
            wanted, alive = partial(self.pool.wanted, run), self.pool.registry.alive
            reports = WaitReports(wanted, alive, self.waits, settings.boot_timeout, show, self.clock)
            stack.callback(self.clock.repeat("vastgpu-waits", reports.step).stop)
            self.joined[run] = stack.pop_all()

    def leave(self, run: str, wait: Callable[[float], bool]) -> bool:
        """A pytest run is over, and others may follow: give back what does not wait for them.

        :param wait: Waits that many seconds; False ends the wait.
        :returns: Whether all of that is gone.
        """
        self.pool.leave(run)
        ends = self.clock.monotonic() + self.timeouts.close_within_s
        while self.pool.gives_back(run) and self.clock.monotonic() < ends and wait(LEFT_LOOK_S):
            pass
        if (stack := self.joined.pop(run, None)) is not None:
            stack.close()
        return not self.pool.left_by(run)

    def close(self) -> None:
        """Give everything back, then close what was opened. Idempotent; a second caller waits for the first."""
        with self.lock:
            if self.over:
                return
            self.ending.cancel()
            self.pool.close()
            self._settle()
            self.closing.close()  # what closes may have something to tell the runs, so these end after it
            while self.joined:  # a run that is over may be about to leave
                with contextlib.suppress(KeyError):
                    self.joined.popitem()[1].close()
            self.over = True

    def waits_for(self, run: str = "") -> list[str]:
        """What :meth:`close` waits for, for people.

        :param run: What the end of this pytest run waits for, where others may follow.
        """
        if run:
            return self.pool.waits_for(self.pool.left_by(run))
        return self.pool.waits_for() or [self._step]

    def tell(self, text: str) -> None:
        """Write an event of the whole run, for people."""
        self.events.write(Event("", None, text))

    def summary(self, run: str) -> Summary:
        """The summary of a pytest run so far."""
        books, problems = self.pool.books.of(run), self.pool.problems
        return Summary(books, problems, list(self.keeper.kept), str(self.costs[run].path), self.warm(run))

    def warm(self, run: str = "") -> list[Warm]:
        """The instances that wait for the next run.

        :param run: Only what this run pays for; empty: all.
        """
        now = self.clock.time()
        return [
            Warm(
                rental.label,
                rental.instance_id,
                rental.purpose,
                rental.cost.usd_h,
                now + left_s,
                left_s,
                rental.age_s,
                idle_s,
            )
            for rental, idle_s, left_s in self.pool.warm()
            if run in ("", self.budgets.payer(rental.label))
        ]

    def _settle(self) -> None:
        """Close all entries of the ledger: look for creates that were never answered, and report all that is left."""
        if any(not entry.instance_id for entry in self._left()):
            text = f"a create was never answered: seeing for up to {LATE_CREATE_S:.0f} s whether it is carried out late"
            self.events.write(Event("", None, text))
            self._step = "a create that was never answered"
            recover(
                self.directory,
                self.cleaner,
                by="owner",
                wait=self.clock.sleep,
                timeouts=self.timeouts,
                clock=self.clock,
                with_key=False,
            )
        for entry in self._left():
            problem = NotDestroyed(entry.instance_id or entry.label, "it was not seen to be gone in time")
            self.pool.registry.left(entry.label, problem.alive)
        self._take_out_key()

    def _take_out_key(self) -> None:
        """Take our SSH key out of the account, unless that takes too long: it costs nothing there."""
        self._step = "the account's record of the SSH key"
        within_s = self.timeouts.account_key_s
        limit = self.clock.repeat("vastgpu-account-key", self.cleaning.cancel, within_s)
        try:
            stays = take_out_key(self.directory, self.cleaner, self.ledger)
        except Cancelled:
            stays = (
                f"the SSH key that run {self.id} has added may still be in the account: looking took more than "
                f"{within_s:g} s; the guard, a later run or `vastgpu reap` takes it out"
            )
        finally:
            limit.stop()
        if stays:
            self.tell(f"warning: {stays}")
        self._step = _PROCESSES

    def _left(self) -> list[LedgerEntry]:
        # The disk may have been too full to write that an instance is gone.
        gone = {label for label, bill in self.pool.registry.bills().items() if bill.gone}
        left = self.ledger.record().left(self.clock.time())
        return [entry for entry in left if not (entry.instance_id and entry.label in gone)]
