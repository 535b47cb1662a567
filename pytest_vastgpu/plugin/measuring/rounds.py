"""Measures both sides of a comparison on one host, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.measuring.comparison import HostRounds
from pytest_vastgpu.measuring.comparison import Round
from pytest_vastgpu.measuring.comparison import round_of
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.plan import ComparisonPlan
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import verdict_line

NAMES = {"A": "baseline", "B": "candidate"}
ERRORS = 0.01
"""Where a larger share of one side's requests fails than of the other's, the sides do not do the same work."""
_monotonic = time.monotonic  # bound now: a test may replace it later


class HostLost(Exception):
    """The host is at fault for the end of a comparison on it, so that what it has measured does not count."""


@dataclass
class HostMeasured:
    """What was measured on a host."""

    machine_id: int
    rounds: list[Round] = field(default_factory=list)
    unfair: str = ""
    """See :class:`HostRounds`."""
    round_s: float = 0.0
    """Seconds of the longest round."""
    seconds: float = 0.0
    """Seconds of all rounds."""
    better: dict[str, int] = field(default_factory=dict)
    """Each metric that can be gated, and whether more of it is better (1) or less (-1)."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a number was not to be had in a window, by the metric's name."""
    failed: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    """Requests that failed, by side."""
    asked: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    stopped: str = ""
    """Why it has fewer rounds than planned, in a sentence; empty: it has not."""

    @property
    def host(self) -> HostRounds:
        """The same for the judge."""
        return HostRounds(self.machine_id, tuple(self.rounds), self.unfair)


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
    """Measure rounds of both sides on a host, until there are enough of them, or the time is over, or it is seen to be
    no fair place.

    :param found: Takes what is found.
    :param sides: The workloads of ``A``, the baseline, and ``B``, the candidate.
    :param limit_s: Most seconds that it may take.
    :param tell: Shows a line.
    :raises HostLost: for a fault of the host.
    :raises MeasurementFailed: if a side cannot be measured, or the time is over before two rounds are.
    """
    found.unfair = instance.fairness().unfair
    if found.unfair:  # what it would measure says nothing, and costs the same
        return
    begun = now()
    for number in range(1, plan.rounds + 1):
        began = now()
        found.rounds.append(_round(instance, found, sides, load, plan, number))
        found.round_s = max(found.round_s, now() - began)
        found.seconds = now() - begun
        if found.unfair:
            return
        left = plan.rounds - number
        usd = left * found.round_s * instance.offer.price_usd_h / HOUR_S
        to_go = f"; about {spoken(left * found.round_s)} and {usd:.4f} USD to go" if left else ""
        tell(f"round {number} of {plan.rounds} on machine {instance.offer.machine_id}: {spoken(now() - began)}{to_go}")
        if left and found.seconds + found.round_s > limit_s:
            found.stopped = (
                f"stopped after {number} of {plan.rounds} rounds: one takes {spoken(found.round_s)}, and "
                f"{spoken(limit_s)} is the limit (minutes=, --vast-max-lifetime)"
            )
            break
    if len(found.rounds) < 2:
        raise MeasurementFailed(f"the comparison {found.stopped}; two rounds are the least that says anything")


def _round(
    instance: VastInstance,
    found: HostMeasured,
    sides: Mapping[str, Workload],
    load: Load,
    plan: ComparisonPlan,
    number: int,
) -> Round:
    values: dict[str, list[Mapping[str, float]]] = {side: [] for side in NAMES}
    for side, windows in plan.starts:
        where = f"in round {number} on machine {instance.offer.machine_id}"
        _start(instance, side, sides[side], where, {each for each, seen in values.items() if seen})
        for _ in range(windows):
            measured = _window(instance, side, load, plan.seconds, where)
            found.unfair = found.unfair or measured.unfair
            gated = {name: figure for name, figure in measured.figures.items() if figure.better}
            found.missing |= measured.missing
            found.better |= {name: figure.better for name, figure in gated.items()}
            values[side].append({name: figure.value for name, figure in gated.items()})
            found.failed[side] += sum(measured.errors.values())
            found.asked[side] += measured.figures["requests"].value if "requests" in measured.figures else 0.0
    _same_work(found)
    return round_of(values["A"], values["B"])


def _start(instance: VastInstance, side: str, workload: Workload, where: str, started: set[str]) -> None:
    try:
        instance.serve(workload)
    except ProvisioningFailed as failed:
        if failed.machines_failed:
            raise HostLost(str(failed)) from failed
        other = f", where the {NAMES[next(iter(started - {side}))]} did" if started - {side} else ""
        raise MeasurementFailed(f"the {NAMES[side]} did not start {where}{other}: {failed}") from failed


def _window(instance: VastInstance, side: str, load: Load, seconds: float, where: str) -> Measurement:
    try:
        return instance.measure(load, seconds)
    except MeasurementFailed as failed:
        fate = instance.fate(instance.mark)
        became = f"; {fate.what}: {verdict_line(fate.verdict)}" if fate is not None else ""
        if fate is not None and fate.excuses:
            raise HostLost(f"machine {instance.offer.machine_id}{became}") from failed
        raise MeasurementFailed(f"the {NAMES[side]} failed {where}: {failed}{became}") from failed


def _same_work(found: HostMeasured) -> None:
    """Check that no side refuses work that the other does.

    :raises MeasurementFailed: if one does.
    """
    shares = {side: found.failed[side] / max(1.0, found.asked[side]) for side in NAMES}
    if abs(shares["A"] - shares["B"]) <= ERRORS:
        return
    told: Sequence[str] = [
        f"{NAMES[side]} {found.failed[side]:.0f} of {found.asked[side]:.0f} ({shares[side]:.1%})" for side in NAMES
    ]
    raise MeasurementFailed(
        f"not as many requests fail on both sides ({', '.join(told)}), so they do not do the same work, and no number "
        "compares them: see what the server says to these requests, or ask for less"
    )
