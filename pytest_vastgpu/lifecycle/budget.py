"""What a run may cost: the worst case is reserved before each rent, and replaced by the truth when it is over."""

from __future__ import annotations

import threading

from pytest_vastgpu.errors import VastGpuError


class BudgetSpent(VastGpuError):
    """Renting once more could cost more than the run may."""


class Budget:
    """A run's money.

    :param limit_usd: What the whole run may cost at worst.
    """

    def __init__(self, limit_usd: float) -> None:
        self._limit = limit_usd
        self._spent = 0.0
        self._reserved: dict[str, float] = {}
        self._lock = threading.Lock()

    def reserve(self, label: str, worst_usd: float) -> None:
        """Set the worst case of one instance aside.

        :raises BudgetSpent: if it does not fit; the text shows the sum.
        """
        with self._lock:
            held = sum(self._reserved.values())
            if self._spent + held + worst_usd > self._limit:
                raise BudgetSpent(
                    f"renting once more could cost {worst_usd:.2f} USD; with {self._spent:.2f} USD spent and "
                    f"{held:.2f} USD reserved for what is running that is more than --vast-budget {self._limit:g} USD: "
                    "raise the budget, or lower --vast-max-lifetime or --vast-max-price"
                )
            self._reserved[label] = worst_usd

    def settle(self, label: str, cost_usd: float) -> None:
        """Replace the reservation of an instance that is gone by what it cost."""
        with self._lock:
            if self._reserved.pop(label, None) is not None:
                self._spent += cost_usd
