"""The price of an instance is looked at as long as it lives: a market, or a host, may raise it.

The rule: what an instance may cost is what its offer was allowed to. Where it becomes dearer than ``--vast-max-price``,
or than the budget can bear until its hard end of life, no new test gets it. Tests that have it may finish, as long as
the money lasts; it is given back with the last of them, and at the latest in time for the budget not to be passed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.model import State
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.rental.rental import Rental

_LEAST_S = 0.05
"""Between two looks, however short the money lasts."""
_log = logging.getLogger(__name__)
_WATCHED = frozenset({State.REACHABLE, State.CHECKED, State.WARMING, State.READY})
"""Before, whoever waits for the boot looks at the price himself."""


class PriceMonitor:
    """Looks, in a thread of its own, until it is closed.

    :param ask: The account's instances.
    :param alive: What the run has rented and is not gone.
    :param dearer: Told of an instance that no new test may get. May be told again.
    :param end: Told of one that has to go now.
    :param look_s: See :attr:`~pytest_vastgpu.core.timeouts.Timeouts.price_look_s`.
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
        """Look no more."""
        self._closed = True
        self._task.stop()
        self._task.join()

    def _step(self) -> float:
        try:
            self._look()
            left_s = [rental.money_lasts_s for rental in self._rentals() if rental.too_dear is not None]
        except Exception:  # noqa: BLE001 - whatever it is, prices are looked at again
            if not self._closed:  # at the end of a run, its client may be closed by now
                _log.exception("the prices could not be looked at; the next look is in %g s", self._look_s)
            left_s = []
        return max(min([self._look_s, *left_s]), _LEAST_S)

    def _look(self) -> None:
        if rentals := self._rentals():
            try:
                found = {status.label: status for status in self._ask()}
            except MarketError:
                found = {}  # asked again at the next look; what is known already is acted on
            for rental in rentals:
                if (status := found.get(rental.label)) is not None:
                    rental.look_at_price(status)
                if rental.too_dear is not None and rental.state is State.READY:
                    self._dearer(rental)
                    if not rental.money_lasts_s > 0:
                        self._end(rental)

    def _rentals(self) -> list[Rental]:
        return [rental for rental in self._alive() if rental.state in _WATCHED]
