"""The owner of everything a run rents. It lives in the controller (or the only process); workers ask it for leases.

Because one process owns all instances, equal workloads are rented once whoever asks first, a worker that dies leaves
nothing behind, and destroying needs no votes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.lifecycle.clock import Cancelled
from pytest_vastgpu.lifecycle.clock import Patience
from pytest_vastgpu.lifecycle.demand import Demand
from pytest_vastgpu.lifecycle.destroy import NotDestroyed
from pytest_vastgpu.lifecycle.instance import Lease
from pytest_vastgpu.lifecycle.provision import Provisioner
from pytest_vastgpu.lifecycle.rental import Rental
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.readiness.adapter import Adapter
from pytest_vastgpu.ssh.login import ConnectFailed

CLOSE_WITHIN_S = 240.0
"""How long the end of a run waits for everything to be destroyed and seen to be gone."""
_PULSE_S = 0.05
"""How often a waiting main thread shows progress."""


@dataclass
class _Slot:
    """One workload's instance: on its way, ready, or failed."""

    workload: Workload
    exclusive: bool
    settled: threading.Event = field(default_factory=threading.Event)
    rental: Rental | None = None
    error: BaseException | None = None
    told: str = ""
    """The test that was told the whole story of the error."""


class Broker:
    """Rents, shares, and gives everything back. Implements :class:`Desk`.

    :param idle: Called again and again while the main thread waits, to show progress.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        max_lifetime_s: float,
        record_lost: Callable[[Attempt, Workload], None],
        idle: Callable[[], None],
    ) -> None:
        self.demand = Demand()
        self.problems: list[str] = []
        """What could not be destroyed, each with the command that does it."""
        self._provisioner: Provisioner | None = None
        self._adapters = adapters
        self._max_lifetime_s = max_lifetime_s
        self._record_lost = record_lost
        self._idle = idle
        self._patience = Patience()
        self._lock = threading.RLock()
        self._slots: dict[object, _Slot] = {}
        self._rentals: dict[str, Rental] = {}
        self._ended: dict[str, Attempt] = {}
        self._threads: list[threading.Thread] = []
        self._timers: list[threading.Timer] = []
        self._closed = False

    def open(self, provisioner: Provisioner) -> None:
        """Set to work."""
        self._provisioner = provisioner

    # ---------------------------------------------------------------- the desk

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        """See :meth:`Desk.acquire`."""
        self._check(workload)
        if not exclusive:
            self.demand.needs(test, workload)
        slot = self._slot(object() if exclusive else workload, workload, exclusive)
        while not slot.settled.wait(_PULSE_S):
            self._idle()
        self._idle()
        if slot.error is not None:
            raise self._shared(slot, test)
        if slot.rental is None:
            raise Cancelled
        return self._lease(slot.rental)

    def release(self, label: str) -> None:
        """See :meth:`Desk.release`."""
        self._retire(label)

    def run(self, label: str, command: str, timeout_s: float) -> ProbeResult:
        """See :meth:`Desk.run`."""
        rental = self._rentals[label]
        if rental.link is None or rental.state is not State.READY:
            return _no_answer(f"instance {rental.instance_id} is {rental.state.value}")
        try:
            return rental.link.run(command, timeout_s)
        except ConnectFailed as failed:
            return _no_answer(str(failed))

    def logs(self, label: str) -> str:
        """See :meth:`Desk.logs`."""
        return self._rentals[label].read_log()

    def cost(self, label: str) -> float:
        """See :meth:`Desk.cost`."""
        return self._rentals[label].cost_usd

    def lost(self, label: str) -> Verdict | None:
        """See :meth:`Desk.lost`."""
        rental = self._rentals[label]
        if rental.state in (State.DESTROYING, State.GONE):
            text = f"it was given back after {self._max_lifetime_s:g} s (--vast-max-lifetime), while the test used it"
            return Verdict(FailureClass.OWN_FAULT, "lifetime_over", text, "raise --vast-max-lifetime")
        verdict = rental.confirm_lost()
        if verdict is not None:
            with self._lock:
                if rental.state is not State.READY:
                    return verdict
                attempt = rental.finish(verdict)
                self._ended[label] = attempt
                self._forget(rental)
            if self._provisioner is not None:
                self._provisioner.avoid(rental.offer.machine_id)
            self._record_lost(attempt, rental.workload)
            self._background(lambda: self._give_back(rental), f"vastgpu-destroy-{label}")
        return verdict

    # --------------------------------------------------------------- the owner

    def expect(self, tests: Mapping[str, Workload | None]) -> None:
        """Learn which tests will ask, and for what, where that is known.

        :raises ConfigurationError: if a workload names an adapter that there is not.
        """
        for workload in tests.values():
            if workload is not None:
                self._check(workload)
        self.demand.expect(tests)

    def finished(self, test: str) -> None:
        """A test is over: give back what no test will need any more."""
        self.demand.finished(test)
        with self._lock:
            ready = {slot.workload: slot.rental for slot in self._slots.values() if slot.rental and not slot.exclusive}
        for workload in self.demand.idle(ready):
            self._retire(ready[workload].label)

    def started(self, rental: Rental) -> None:
        """A rental is about to be created: from now on it is this broker's to destroy."""
        timer = threading.Timer(self._max_lifetime_s, self._lifetime_over, (rental,))
        timer.daemon = True
        with self._lock:
            self._rentals[rental.label] = rental
            self._timers.append(timer)
        timer.start()

    def ended(self, rental: Rental, attempt: Attempt) -> None:
        """A failed attempt is over."""
        self._ended[rental.label] = attempt

    def attempts(self) -> list[Attempt]:
        """Every attempt of the run, in order, each with what it has cost by now."""
        with self._lock:
            found = [
                replace(self._ended.get(label) or rental.attempt(), cost_usd=rental.cost_usd)
                for label, rental in self._rentals.items()
                if rental.instance_id
            ]
        return sorted(found, key=lambda attempt: attempt.number)

    def close(self) -> None:
        """Give everything back and wait until it is gone. Idempotent; what is left is in :attr:`problems`."""
        with self._lock:
            self._closed = True
            threads, timers = list(self._threads), list(self._timers)
            self._timers.clear()
        self._patience.cancel()
        for timer in timers:
            timer.cancel()
        ends = time.monotonic() + CLOSE_WITHIN_S
        self._join(threads, ends)
        alive = [rental for rental in self._rentals.values() if rental.state is not State.GONE]
        destroyers = [
            threading.Thread(
                target=self._give_back, args=(rental,), name=f"vastgpu-destroy-{rental.label}", daemon=True
            )
            for rental in alive
        ]
        for thread in destroyers:
            thread.start()
        self._join(destroyers, ends)
        self._idle()

    # ---------------------------------------------------------------- plumbing

    def _check(self, workload: Workload) -> None:
        if workload.adapter not in self._adapters:
            known = ", ".join(sorted(self._adapters))
            raise ConfigurationError(
                f"no adapter is called {workload.adapter!r}; there are: {known} (a conftest file that brings one must "
                "be in a directory named on the command line, or in the root directory)"
            )

    def _join(self, threads: list[threading.Thread], ends: float) -> None:
        for thread in threads:
            while thread.is_alive() and time.monotonic() < ends:
                thread.join(_PULSE_S)
                self._idle()

    def _slot(self, key: object, workload: Workload, exclusive: bool) -> _Slot:
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                if self._closed or self._provisioner is None:
                    raise Cancelled
                slot = self._slots[key] = _Slot(workload, exclusive)
                provisioner, new = self._provisioner, slot
                self._background(lambda: self._provision(provisioner, new), f"vastgpu-rent-{len(self._slots)}")
            return slot

    def _provision(self, provisioner: Provisioner, slot: _Slot) -> None:
        try:
            slot.rental = provisioner.provision(slot.workload, self._adapters[slot.workload.adapter], self._patience)
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the tests that wait for it, never swallowed
            slot.error = error
        finally:
            slot.settled.set()

    def _shared(self, slot: _Slot, test: str) -> BaseException:
        """The first test hears the whole story, the others one line."""
        with self._lock:
            if not slot.told:
                slot.told = test
                return slot.error or Cancelled()
        first = str(slot.error).splitlines()[0] if slot.error else ""
        text = f"not rented again in this run: {first} (the whole story: {slot.told})"
        attempts = slot.error.attempts if isinstance(slot.error, ProvisioningFailed) else ()
        return ProvisioningFailed(text, attempts) if isinstance(slot.error, VastGpuError) else slot.error or Cancelled()

    def _lease(self, rental: Rental) -> Lease:
        seconds = rental.attempt().seconds
        return Lease(rental.label, rental.instance_id, rental.offer, rental.endpoint, dict(rental.headers), seconds)

    def _lifetime_over(self, rental: Rental) -> None:
        if rental.state is State.READY:  # one that is still coming up sees to it itself
            self._retire(rental.label)

    def _retire(self, label: str) -> None:
        with self._lock:
            rental = self._rentals[label]
            if rental.state in (State.GONE, State.DESTROYING):
                return
            self._forget(rental)
        self._background(lambda: self._give_back(rental), f"vastgpu-destroy-{label}")

    def _forget(self, rental: Rental) -> None:
        """Nobody gets this instance any more."""
        for key, slot in list(self._slots.items()):
            if slot.rental is rental:
                del self._slots[key]

    def _give_back(self, rental: Rental) -> None:
        try:
            rental.give_back(time.sleep)
        except NotDestroyed as error:
            self._left(rental, str(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not pass for an instance that is gone
            defect = f"{type(error).__name__}: {error}, a defect of pytest-vastgpu"
            self._left(rental, str(NotDestroyed(rental.instance_id or rental.label, defect)))

    def _left(self, rental: Rental, problem: str) -> None:
        """What could not be destroyed is tried again at the end of the run; what is left then is told."""
        with self._lock:
            if self._closed:
                self.problems.append(f"{problem} ({rental.price_usd_h:.2f} USD/h)")

    def _background(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()


def _no_answer(text: str) -> ProbeResult:
    return ProbeResult("run", ProbeFailure.TRANSPORT, None, "", text, 0.0)
