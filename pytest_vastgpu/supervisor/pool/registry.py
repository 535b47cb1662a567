"""Registry of all rentals of a run, from the intention to rent until they are given back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.clock import Repeated
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import State
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.rental.rental import Rental


class RentalRegistry:
    """The rentals of a run, by label. Thread-safe.

    :param max_lifetime_s: Seconds after which each instance must be given back.
    :param lifetime_over: Called with each rental that reaches this age.
    """

    def __init__(
        self, max_lifetime_s: float, lifetime_over: Callable[[Rental], None], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._problems: dict[str, Alive] = {}
        self._max_lifetime_s = max_lifetime_s
        self._lifetime_over = lifetime_over
        self._lock = threading.Lock()
        self._rentals: dict[str, Rental] = {}
        self._ended: dict[str, Attempt] = {}
        self._clock = clock
        self._ends: list[Repeated] = []

    def __getitem__(self, label: str) -> Rental:
        return self._rentals[label]

    def find(self, label: str) -> Rental | None:
        """The rental with a label; None if there is none."""
        return self._rentals.get(label)

    def alive(self) -> list[Rental]:
        """All rentals whose instance is not verified gone."""
        with self._lock:
            return [rental for rental in self._rentals.values() if rental.state is not State.GONE]

    def started(self, rental: Rental) -> None:
        """Add a rental, before its instance is created: from now on it must be given back."""
        with self._lock:
            self._rentals[rental.label] = rental
            name = f"vastgpu-lifetime-{rental.label}"
            self._ends.append(self._clock.repeat(name, lambda: self._lifetime_over(rental), self._max_lifetime_s))

    def ended(self, rental: Rental, attempt: Attempt) -> None:
        """Note how a failed attempt ended."""
        with self._lock:
            self._ended[rental.label] = attempt

    def artifacts(self, label: str) -> str:
        """The directory with the evidence of a failed attempt; empty if there is none."""
        with self._lock:
            ended = self._ended.get(label)
        return ended.artifacts if ended is not None else ""

    def attempts(self) -> list[Attempt]:
        """Every attempt of the run, in order, each with its cost so far."""
        with self._lock:
            return [
                replace(self._ended.get(label) or rental.attempt(), cost_usd=rental.cost.usd)
                for label, rental in self._rentals.items()
                if rental.instance_id
            ]

    def bills(self) -> dict[str, CostRecord]:
        """The cost of each rental so far, by label."""
        with self._lock:
            return {label: rental.cost.bill for label, rental in self._rentals.items()}

    def give_back(self, rental: Rental) -> None:
        """Destroy an instance, verified. The end of the run tries again what resists, and reports it."""
        try:
            rental.give_back()
        except NotDestroyed as error:
            self._resists(rental, error)
        except Exception as error:  # noqa: BLE001 - with any error, the instance must not count as gone
            defect = f"{type(error).__name__}: {error}, a defect of pytest-vastgpu"
            self._resists(rental, NotDestroyed(rental.instance_id or rental.label, defect))
        else:
            with self._lock:
                self._problems.pop(rental.label, None)

    @property
    def problems(self) -> list[Alive]:
        """The instances that could not be destroyed."""
        with self._lock:
            return list(self._problems.values())

    def left(self, label: str, problem: Alive) -> None:
        """Note that an attempt may have left something behind. An earlier, more precise problem of it stays."""
        with self._lock:
            self._problems.setdefault(label, problem)

    def close(self) -> None:
        """Stop watching lifetimes: the run is ending."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            end.stop()

    def _resists(self, rental: Rental, problem: NotDestroyed) -> None:
        with self._lock:
            self._problems[rental.label] = replace(
                problem.alive, usd_h=rental.cost.usd_h, until=rental.ends_itself_at, workload=rental.purpose
            )
