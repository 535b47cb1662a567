"""Measures both sides of a comparison on one host, round after round."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.client.calls import GPU_MEMORY_HELD
from pytest_vastgpu.client.calls import SERVER_NOT_STOPPED
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.errors import LoadNotRun
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.measuring import gpu
from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Round
from pytest_vastgpu.measuring.comparing.comparison import round_of
from pytest_vastgpu.measuring.comparing.plan import ComparisonPlan
from pytest_vastgpu.measuring.comparing.plan import about
from pytest_vastgpu.measuring.comparing.ratios import same_share
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.measurement import OF_ALL_SERVERS
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import verdict_line

NAMES = {"A": "baseline", "B": "candidate"}
_BOTH = "both servers are on the GPU, and it tells only what they take together"
THROTTLED_ROUNDS = 3
"""One in so many rounds, or more, that do not count are a hardware problem of the host."""
_monotonic = time.monotonic  # bound now: a test may replace it later


class HostLost(Exception):
    """The host is at fault for the end of a comparison on it, so that what it has measured does not count.

    :param side: The side that ran, or was to start.
    :param reason: What of the host failed, in a word; empty: nothing of which a side could be the cause.
    :param under_load: Whether the side ran.
    """

    def __init__(self, text: str, side: str, reason: str = "", *, under_load: bool = False) -> None:
        super().__init__(text)
        self.side = side
        self.reason = reason
        self.under_load = under_load


class TooFewRounds(MeasurementFailed):
    """The time on a host was over before there were rounds enough to say anything."""


class _TimeOver(Exception):
    """A round would not end within the limit."""


@dataclass
class HostMeasured:
    """What was measured on a host."""

    machine_id: int
    name: str = ""
    """These two are as in :class:`HostRounds`."""
    rounds: list[Round] = field(default_factory=list)
    hardware_problem: str = ""
    """See :class:`HostRounds`."""
    round_s: float = 0.0
    """Seconds of the longest round."""
    seconds: float = 0.0
    """Seconds of all rounds."""
    better: dict[str, int] = field(default_factory=dict)
    """Each metric that can be gated, and whether more of it is better (1) or less (-1)."""
    seen: set[str] = field(default_factory=set)
    """All metrics that were measured."""
    answered: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    """Requests that were answered, by side."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a number was not to be had in a window, by the metric's name."""
    failed: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    """Requests that failed, by side."""
    left_out: list[str] = field(default_factory=list)
    """Why a round does not count, in a sentence for each such round."""
    notes: list[str] = field(default_factory=list)
    """What could not be looked at on the host, and which windows were measured again, in sentences."""
    worked: set[str] = field(default_factory=set)
    """The sides that were measured there at least once, or had started where the other one did not."""
    again: bool = False
    """Whether a window of a server that lives, and could be asked, was measured again: once."""
    stopped: str = ""
    """Why it has fewer rounds than planned, in a sentence; empty: it has not."""

    windows: dict[str, list[bool]] = field(default_factory=lambda: {side: [] for side in NAMES})
    """By side, for each window: whether the load's driver was busy."""

    @property
    def host(self) -> HostRounds:
        """The same for the judge."""
        busy = [NAMES[side] for side, each in self.windows.items() if each and 2 * sum(each) >= len(each)]
        hides = (
            f"the load's driver was busy in most windows of the {' and of the '.join(busy)}, so it may be what was "
            "measured: have the load ask for less at a time"
        )
        return HostRounds(self.machine_id, tuple(self.rounds), self.hardware_problem, self.name, hides if busy else "")


def measure_host(
    instance: VastInstance,
    found: HostMeasured,
    sides: Mapping[str, Workload],
    load: Load,
    plan: ComparisonPlan,
    limit_s: float,
    tell: Callable[[str], None],
    now: Callable[[], float] = _monotonic,
) -> None:
    """Measure rounds of both sides on a host, until there are enough of them, or the time is over, or a hardware
    problem of the host is seen.

    :param found: Takes what is found.
    :param sides: The workloads of ``A``, the baseline, and ``B``, the candidate.
    :param limit_s: Most seconds that it may take.
    :param tell: Shows a line.
    :raises HostLost: for a fault of the host.
    :raises MeasurementFailed: if a side cannot be measured.
    :raises TooFewRounds: if the time is over before two rounds are.
    """
    seen = instance.check_gpus()
    found.hardware_problem, found.notes = seen.hardware_problem, list(seen.notes)
    if found.hardware_problem:  # what it would measure says nothing, and costs the same
        return
    rounds = _Rounds(instance, found, sides, load, plan, now, now() + limit_s)
    begun = now()
    for number in range(1, plan.rounds + 1):
        began = now()
        try:
            rounds.measure(number)
        except _TimeOver:
            over = f"round {number} would have taken longer"
        else:
            over = ""
            found.round_s = max(found.round_s, now() - began)
        found.seconds = now() - begun
        if found.hardware_problem:
            return
        left = plan.rounds - number
        if not over:
            to_go = f"; {about(left * found.round_s, instance.offer.price_usd_h)} to go" if left else ""
            took = spoken(now() - began)
            tell(f"round {number} of {plan.rounds} on machine {instance.offer.machine_id}: {took}{to_go}")
            if left and found.seconds + found.round_s > limit_s:
                over, number = f"one takes {spoken(found.round_s)}", number + 1
        if over:
            limit = f"{spoken(limit_s)} is the limit (minutes=, --vast-max-lifetime)"
            found.stopped = f"stopped after {number - 1} of {plan.rounds} rounds: {over}, and {limit}"
            break
    if len(found.rounds) < 2 and found.left_out:
        found.hardware_problem = found.left_out[-1]
    elif len(found.rounds) < 2:
        raise TooFewRounds(f"the comparison {found.stopped}; two rounds are the least that says anything")


class _Rounds:
    """The rounds on a host.

    :param ends: When its time is over, on the clock of ``now``.
    """

    def __init__(
        self,
        instance: VastInstance,
        found: HostMeasured,
        sides: Mapping[str, Workload],
        load: Load,
        plan: ComparisonPlan,
        now: Callable[[], float],
        ends: float,
    ) -> None:
        self._instance = instance
        self._found = found
        self._sides = sides
        self._load = load
        self._plan = plan
        self._now = now
        self._ends = ends
        self._noted: set[tuple[str, str]] = set()
        self._start_s = 0.0
        """Seconds of the longest start."""
        self._window_s = load.warmup_s + plan.seconds
        self._up: dict[str, Lease] = {}
        """The sides that were started in this round; of each the newest start."""

    def measure(self, number: int) -> None:
        """Measure a round. One in which the host throttled does not count.

        :raises _TimeOver: if it would not end within the limit.
        """
        found, where = self._found, f"in round {number} on machine {self._instance.offer.machine_id}"
        windows: dict[str, list[Measurement]] = {side: [] for side in NAMES}
        self._up.clear()
        for sides, measured_then in self._plan.starts:
            takes_turns = sides if number % 2 else sides[::-1]  # the first one has all of the memory to choose from
            for nth, side in enumerate(takes_turns):
                self._check_time((len(sides) - nth) * self._start_s + len(measured_then) * self._window_s)
                began = self._now()
                self._start(side, where, beside=nth > 0)
                self._start_s = max(self._start_s, self._now() - began)
            for side in measured_then:
                self._check_time(self._window_s)
                windows[side].append(self._window(side, where))
                found.worked.add(side)
        for side, each in windows.items():
            for measured in each:
                self._note(side, measured)
                found.better |= {name: figure.better for name, figure in measured.figures.items() if figure.better}
                found.seen |= measured.figures.keys()
                found.missing |= measured.missing
                found.failed[side] += sum(measured.errors.values())
                found.answered[side] += measured.figures["requests"].value if "requests" in measured.figures else 0.0
        _check_work(found, self._plan.rounds)
        if slowed := _slowed(windows):
            why = "; ".join(slowed.values())
            if len(slowed) == 1:
                why += f", and only while the {next(iter(slowed))} was under load"
            found.left_out.append(f"round {number} does not count: {why}")
            if len(found.left_out) * THROTTLED_ROUNDS >= self._plan.rounds and number > 1:
                found.hardware_problem = f"in {len(found.left_out)} of {number} rounds it throttled: {why}"
                if len(slowed) > 1:  # or a side may be what heats it
                    self._instance.report_hardware_problem(found.hardware_problem)
            return
        baseline, candidate = ([values_of(each) for each in windows[side]] for side in NAMES)
        found.rounds.append(round_of(baseline, candidate))

    def _note(self, side: str, measured: Measurement) -> None:
        """Keep what must be known to read a window: what differs in numbers alone is told once for each side."""
        self._found.windows[side].append(measured.driver_busy)
        for note in measured.notes:
            kind = side, re.sub(r"\d[\d.,]*", "", note)
            if kind not in self._noted:
                self._noted.add(kind)
                self._found.notes.append(f"in a window of the {NAMES[side]}, {note}")

    def _check_time(self, takes_s: float) -> None:
        if self._now() + takes_s > self._ends:
            raise _TimeOver

    def _start(self, side: str, where: str, *, beside: bool) -> None:
        others = self._up.keys() - {side}
        start = self._instance.serve_beside if beside else self._instance.serve
        try:
            self._up[side] = start(self._sides[side])
        except MarketError as failed:  # whether anything serves there is not known, so it is given back
            self._found.worked |= others
            raise HostLost(f"the {NAMES[side]} could not be started {where}: {failed}", side) from failed
        except ProvisioningFailed as failed:
            self._is_over(failed)
            self._found.worked |= others
            if failed.machines_failed:
                last = failed.attempts[-1].verdict
                raise HostLost(str(failed), side, last.reason if last is not None else "") from failed
            if not _is_the_sides(failed):
                raise HostLost(str(failed), side) from failed
            other = f", where the {NAMES[next(iter(others))]} did" if others else ""
            raise MeasurementFailed(f"the {NAMES[side]} did not start {where}{other}: {failed}") from failed

    def _window(self, side: str, where: str) -> Measurement:
        machine, found, broken = f"machine {self._instance.offer.machine_id}", self._found, False
        self._instance.leads_to(self._up[side], self._sides[side])
        while True:
            try:
                measured = self._instance.measure(self._load, self._plan.seconds, blames=False)
                return measured.without(OF_ALL_SERVERS, _BOTH) if self._plan.together else measured
            except MeasurementFailed as failed:
                self._is_over(failed)
                fate = self._instance.fate(self._instance.mark)
                became = f"; {fate.what}: {verdict_line(fate.verdict)}" if fate is not None else ""
                if fate is not None and fate.excuses:
                    blamed = fate.verdict.failure_class.blames_machine
                    reason = fate.verdict.reason if blamed else ""
                    raise HostLost(f"{machine}{became}", side, reason, under_load=True) from failed
                breaks = isinstance(failed, LoadNotRun)
                if breaks and broken:
                    twice = f"{machine}: {failed}, twice in a row"
                    raise HostLost(twice, side, "connection_broke", under_load=True) from failed
                if fate is not None or (found.again and not breaks):
                    raise MeasurementFailed(f"the {NAMES[side]} failed {where}: {failed}{became}") from failed
                # A moment's standstill shall not cost all that was measured before; a connection breaks now and then.
                broken, found.again = breaks, found.again or not breaks
                found.notes.append(f"a window of the {NAMES[side]} was measured again {where}: {failed}")
                self._check_time(self._window_s)

    def _is_over(self, failed: Exception) -> None:
        """Blame no host that has reached the end of its time.

        :raises _TimeOver: if it has.
        """
        if self._now() >= self._ends:
            raise _TimeOver from failed


def values_of(measured: Measurement) -> Mapping[str, float]:
    """The numbers of a window that can be gated. Those without an upper end are there as well, ``inf`` being the worst:
    a window without its worst number would leave its side the better ones.
    """
    return {name: figure.value for name, figure in {**measured.unbounded, **measured.figures}.items() if figure.better}


def _is_the_sides(failed: ProvisioningFailed) -> bool:
    """Whether a server did not start for what the side is, and not for the host, for our own side, such as the price of
    the host, or for what the server before it has left behind.
    """
    verdicts = [each.verdict for each in failed.attempts if each.verdict is not None]
    return bool(verdicts) and not any(
        each.failure_class is FailureClass.OWN_FAULT or each.reason in (SERVER_NOT_STOPPED, GPU_MEMORY_HELD)
        for each in verdicts
    )


def _slowed(windows: Mapping[str, Sequence[Measurement]]) -> Mapping[str, str]:
    """Why a round does not count, in a sentence for each side while which the host was slowed down; empty: it does."""
    sides = {
        NAMES[side]: gpu.hardware_problem(gpu.together(each.gpus for each in found)) for side, found in windows.items()
    }
    return {name: why for name, why in sides.items() if why}


def at_fault(lost: Sequence[tuple[HostLost, HostMeasured]]) -> str:
    """Whose fault it is that hosts were lost, in a sentence; empty: theirs.

    A side that was never measured on any of several hosts is what they had in common, where the other one was on each;
    so is the one that begins, where its first window ended each in the same way.
    """
    sides = {each.side for each, _ in lost}
    if len(lost) < 2 or len(sides) > 1 or not all(each.reason for each, _ in lost):
        return ""
    (side,) = sides
    (other,) = set(NAMES) - {side}
    alike = len({each.reason for each, _ in lost}) == 1 and all(each.under_load for each, _ in lost)
    if all(found.worked == {other} for _, found in lost):
        but = f", where the {NAMES[other]} worked"
    elif alike and not any(found.worked for _, found in lost):
        but = ", and each failed in the same way"
    else:
        return ""
    places = " and ".join(dict.fromkeys(found.host.place for _, found in lost))
    return f"the {NAMES[side]} could not be measured on {places}{but}: {lost[-1][0]}"


def _check_work(found: HostMeasured, looks: int) -> None:
    """Check that no side refuses work that the other does.

    :param looks: How often that is asked of a host.
    :raises MeasurementFailed: if one does.
    """
    asked = {side: found.failed[side] + found.answered[side] for side in NAMES}
    if same_share(list(found.failed.values()), list(asked.values()), looks):
        return
    rates = [
        f"{name} {found.failed[side]:.0f} of {asked[side]:.0f} ({found.failed[side] / asked[side]:.1%})"
        for side, name in NAMES.items()
    ]
    raise MeasurementFailed(
        f"not as many requests fail on both sides ({', '.join(rates)}), so they do not do the same work, and no number "
        "compares them: see what the server says to these requests, or ask for less"
    )
