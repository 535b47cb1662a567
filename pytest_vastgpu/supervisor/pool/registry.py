"""Everything that a run has rented, from the intention on, and how it goes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.clock import Repeated
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import State
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.money.costs import CostRecord
from pytest_vastgpu.supervisor.rental.rental import Rental


class RentalRegistry:
    """The rentals of a run, by label. Any thread may use it.

    :param max_lifetime_s: Seconds after which an instance has to go, whatever happens.
    :param lifetime_over: Told of each one that has come to that age.
    """

    def __init__(
        self, max_lifetime_s: float, lifetime_over: Callable[[Rental], None], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._problems: dict[str, str] = {}
        self._max_lifetime_s = max_lifetime_s
        self._lifetime_over = lifetime_over
        self._lock = threading.Lock()
        self._rentals: dict[str, Rental] = {}
        self._ended: dict[str, Attempt] = {}
        self._clock = clock
        self._ends: list[Repeated] = []

    def __getitem__(self, label: str) -> Rental:
        return self._rentals[label]

    def alive(self) -> list[Rental]:
        """All that are not known to be gone."""
        with self._lock:
            return [rental for rental in self._rentals.values() if rental.state is not State.GONE]

    def started(self, rental: Rental) -> None:
        """A rental is about to be created: from now on it has to be given back."""
        with self._lock:
            self._rentals[rental.label] = rental
            name = f"vastgpu-lifetime-{rental.label}"
            self._ends.append(self._clock.repeat(name, lambda: self._lifetime_over(rental), self._max_lifetime_s))

    def ended(self, rental: Rental, attempt: Attempt) -> None:
        """A failed attempt is over."""
        with self._lock:
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

    def bills(self) -> dict[str, CostRecord]:
        """What each has cost by now, by label."""
        with self._lock:
            return {label: rental.bill for label, rental in self._rentals.items()}

    def give_back(self, rental: Rental) -> None:
        """Destroy it, verified. What cannot be destroyed is tried again at the end of the run, and then told."""
        try:
            rental.give_back()
        except NotDestroyed as error:
            self._resists(rental, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not pass for an instance that is gone
            defect = f"{type(error).__name__}: {error}, a defect of pytest-vastgpu"
            self._resists(rental, str(NotDestroyed(rental.instance_id or rental.label, defect)))
        else:
            with self._lock:
                self._problems.pop(rental.label, None)

    @property
    def problems(self) -> list[str]:
        """What could not be destroyed, each with the command that does it."""
        with self._lock:
            return list(self._problems.values())

    def left(self, label: str, problem: str) -> None:
        """Something of an attempt may be left; what has been said of it before is more telling."""
        with self._lock:
            self._problems.setdefault(label, problem)

    def close(self) -> None:
        """The run is ending."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            end.stop()

    def _resists(self, rental: Rental, problem: str) -> None:
        with self._lock:
            self._problems[rental.label] = f"{problem} ({rental.price_usd_h:.2f} USD/h)"
