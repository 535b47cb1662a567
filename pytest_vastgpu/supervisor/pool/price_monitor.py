"""Monitors the prices of running instances, which the market or a host may raise.

The limits are the same as for offers. Where a price rises above ``--vast-max-price``, or so high that the budget does
not last until the instance's hard end of life, no new test gets the instance. Tests that use it may finish. It is given
back after the last of them, or earlier where the run would otherwise exceed its budget.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.model import State
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.rental.rental import Rental

_LEAST_S = 0.05
"""Shortest pause between two checks, even when the money runs out."""
_log = logging.getLogger(__name__)
_WATCHED = frozenset({State.REACHABLE, State.CHECKED, State.WARMING, State.READY})
"""States in which the monitor checks the price. Before that, bring-up does."""


class PriceMonitor:
    """Checks prices in the background until it is closed.

    :param ask: Returns the account's instances.
    :param alive: Returns the rentals of the run that are not gone.
    :param dearer: Called for an instance that no new test may get; may be called again.
    :param end: Called for an instance that must be given back now.
    :param look_s: Pause between two checks; see :attr:`~pytest_vastgpu.core.timeouts.Timeouts.price_look_s`.
    """

    def __init__(
        self,
        ask: Callable[[], Sequence[InstanceStatus]],
        alive: Callable[[], Iterable[Rental]],
        dearer: Callable[[Rental], None],
        end: Callable[[Rental], None],
        look_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._ask = ask
        self._alive = alive
        self._dearer = dearer
        self._end = end
        self._look_s = look_s
        self._closed = False
        self._task = clock.repeat("vastgpu-prices", self._step, max(look_s, _LEAST_S))

    def close(self) -> None:
        """Stop checking."""
        self._closed = True
        self._task.stop()
        self._task.join(DEFAULTS.leave_s)

    def _step(self) -> float | None:
        try:
            self._check()
            left_s = [rental.cost.money_lasts_s for rental in self._rentals() if rental.cost.too_dear is not None]
        except Cancelled:
            return None
        except Exception:  # noqa: BLE001 - logged; the monitor must go on
            if not self._closed:  # at the end of a run, its client may be closed
                _log.exception("the prices could not be looked at; the next look is in %g s", self._look_s)
            left_s = []
        return max(min([self._look_s, *left_s]), _LEAST_S)

    def _check(self) -> None:
        if rentals := self._rentals():
            try:
                found = {status.label: status for status in self._ask()}
            except MarketError:
                found = {}  # the next check asks again; now act on what is known
            for rental in rentals:
                if (status := found.get(rental.label)) is not None:
                    rental.look_at_price(status)
                if rental.cost.too_dear is not None and rental.state is State.READY:
                    self._dearer(rental)
                    if not rental.cost.money_lasts_s > 0:
                        self._end(rental)

    def _rentals(self) -> list[Rental]:
        return [rental for rental in self._alive() if rental.state in _WATCHED]
