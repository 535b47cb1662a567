"""Says what tests wait for, about once a second, as values for the process that shows it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.diagnosis.newest import newest
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import MarketWait
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.reporting.waiting import Waiting
from pytest_vastgpu.reporting.waiting import stage
from pytest_vastgpu.supervisor.rental.rental import Rental

EVERY_S = 1.0
"""Between two reports."""
DOING_CHARS = 100
"""Most characters of what goes on."""
BOOTS = {
    State.INTENDED: "renting it",
    State.CREATED: "booting",
    State.BOOTING: "booting",
    State.REACHABLE: "checking the host",
}
"""What goes on in the states for which ``--vast-boot-timeout`` is the limit."""
STATES = {
    **BOOTS,
    State.READY: "looking whether its server still serves",
    State.CHECKED: "bringing files and starting the server",
    State.WARMING: "the server starts",
}
"""What goes on in the states from which an instance may become ready, the first last."""
WITHOUT_SERVER = {State.CHECKED: "bringing files", State.WARMING: "making the environment"}
"""The same for a host without a server, where it differs."""
_ORDER = [State.READY, *BOOTS, State.CHECKED, State.WARMING]


@dataclass(frozen=True)
class Wanted:
    """A workload for which tests wait."""

    workload: Workload
    name: str
    since: float
    """When the first of them began to wait, on the clock."""
    lacks_room: bool
    """Whether another instance must be given back before."""


class MarketWaits:
    """The calls that wait because of the market's limits. Any thread may report one.

    :param tell: Writes a line for people, with the same facts for programs.
    """

    def __init__(self, tell: Callable[..., None], clock: Clock) -> None:
        self._tell = tell
        self._clock = clock
        self._newest: tuple[float, MarketWait] | None = None

    def begins(self, wait: MarketWait) -> None:
        """A call begins to wait."""
        self._newest = (self._clock.monotonic() + wait.seconds, wait)
        self._tell(str(wait), wait=wait.what, wait_s=round(wait.seconds, 3))

    def shown(self) -> str:
        """The newest wait that is not over, with the seconds that are left; empty: none."""
        if self._newest is None:
            return ""
        ends, wait = self._newest
        left_s = ends - self._clock.monotonic()
        return wait.with_left(left_s) if left_s > 0 else ""


class WaitReports:
    """Reports what tests wait for; one report says that they wait no more.

    :param wanted: The workloads for which tests wait.
    :param rentals: All rentals that are not gone.
    :param boot_timeout_s: The time limit of a boot.
    :param show: Called with each report.
    """

    def __init__(
        self,
        wanted: Callable[[], Sequence[Wanted]],
        rentals: Callable[[], Iterable[Rental]],
        market: MarketWaits,
        boot_timeout_s: float,
        show: Callable[[Sequence[Waiting]], None],
        clock: Clock,
    ) -> None:
        self._wanted = wanted
        self._rentals = rentals
        self._market = market
        self._boot_timeout_s = boot_timeout_s
        self._show = show
        self._clock = clock
        self._empty = True

    def step(self) -> float:
        """Make a report; returns the seconds until the next one."""
        wanted = self._wanted()
        if wanted or not self._empty:
            self._empty = not wanted
            self._show([self._waiting(each) for each in wanted])
        return EVERY_S

    def _waiting(self, wanted: Wanted) -> Waiting:
        # Another thread brings them up: each state is read once.
        coming = [(one, one.state) for one in self._rentals() if one.workload == wanted.workload]
        coming = [(one, state) for one, state in coming if state in STATES]
        seconds = self._clock.monotonic() - wanted.since
        if not coming:
            room = "waiting for another instance to be given back" if wanted.lacks_room else "looking for an offer"
            return Waiting(wanted.name, seconds, self._market.shown() or room)
        rental, state = max(coming, key=lambda each: _ORDER.index(each[1]))
        doing = sanitize.line(self._doing(rental, state), DOING_CHARS)
        again = f", attempt {rental.nth}" if rental.nth > 1 else ""
        machine = sanitize.line(gpus(rental.offer.num_gpus, rental.offer.gpu_name) + again, DOING_CHARS)
        window, window_s, left_s = self._window(rental, state)
        return Waiting(
            wanted.name, seconds, doing, rental.instance_id, machine, window, window_s, left_s, rental.cost.usd
        )

    def _doing(self, rental: Rental, state: State) -> str:
        shown = rental.shown
        if state is State.INTENDED and (waits := self._market.shown()):
            return waits
        if state is State.WARMING:
            found = newest(rental.log)
            if isinstance(found, Progress):
                return stage(found)
            return ": ".join(filter(None, (shown.text, found))) or self._usual(rental, state)
        return shown.text or self._usual(rental, state)

    def _usual(self, rental: Rental, state: State) -> str:
        return (WITHOUT_SERVER if rental.workload.adapter == HOST else {}).get(state) or STATES[state]

    def _window(self, rental: Rental, state: State) -> tuple[str, float, float]:
        """Which time limit runs, how long it is, and how much of it is left."""
        if state in BOOTS:
            return "boot budget", self._boot_timeout_s, self._boot_timeout_s - rental.age_s
        shown = rental.shown
        return shown.window, shown.window_s, shown.ends - self._clock.monotonic()
