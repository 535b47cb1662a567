"""Where the bars of the timeline are. Pure; places and widths are thousandths of the run's time."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import Used

WIDTH = 1000.0
LEAST = 1.5
"""No bar is narrower, so that all are seen."""
LANES = 6
"""Tests that use an instance at the same time are below one another, in so many lanes at most."""
STEP_HEIGHT, LANE_HEIGHT, GAP = 16, 7, 3
STEPS = {
    "intended": "renting",
    "created": "created",
    "booting": "booting",
    "reachable": "checking the host",
    "checked": "bringing files, starting the server",
    "warming": "the server starts",
    "ready": "ready",
    "failed": "keeping evidence",
    "destroying": "giving it back",
}
"""The steps of an instance in words, by state."""
_ROUND = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)


class Bar(NamedTuple):
    """A bar, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    """Its class."""
    title: str


class Row(NamedTuple):
    """The bars of one instance."""

    instance: InstanceReport
    height: float
    bars: Sequence[Bar]


class Tick(NamedTuple):
    """A moment on the axis."""

    percent: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """All of it."""

    rows: Sequence[Row] = ()
    pauses: Sequence[Bar] = ()
    ticks: Sequence[Tick] = ()


@dataclass(frozen=True)
class _Scale:
    start: float
    seconds: float

    def bar(self, start: float, end: float, y: float, height: float, kind: str, words: str) -> Bar:
        x = min(max(0.0, (start - self.start) / self.seconds * WIDTH), WIDTH - LEAST)
        width = min(max(LEAST, (end - start) / self.seconds * WIDTH), WIDTH - x)
        title = f"{words}: {span(end - start)}, from {span(start - self.start)} on"
        return Bar(round(x, 2), y, round(width, 2), height, kind, title)


def span(seconds: float) -> str:
    """``0.4 s``, ``12 min 5 s``."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 60 else spoken(seconds)


def timeline(report: RunReport) -> Timeline:
    """The bars of every instance on one axis."""
    drawn = [each for each in report.instances if each.phases]
    moments = [moment for each in drawn for phase in each.phases for moment in (phase.start, phase.end) if moment]
    moments += [pause.start for pause in report.pauses if pause.start]
    if not moments:
        return Timeline()
    start = min(moments)
    scale = _Scale(start, max(0.1, max(moments) - start))
    return Timeline(
        [_row(each, scale) for each in drawn],
        [
            scale.bar(each.start, each.end, 0, STEP_HEIGHT, "pause", f"the market's limit for {each.what}")
            for each in report.pauses
        ],
        list(_ticks(scale.seconds)),
    )


def _row(instance: InstanceReport, scale: _Scale) -> Row:
    bars = [
        scale.bar(each.start, each.end, 0, STEP_HEIGHT, f"step {each.name}", STEPS.get(each.name, each.name))
        for each in instance.phases
    ]
    bars += [scale.bar(each.start, each.end, 0, STEP_HEIGHT, "idle", "idle, no test used it") for each in instance.idle]
    if instance.verdict is not None and (failed := [each for each in instance.phases if each.name == "failed"]):
        moment, what = failed[0].start, "lost" if instance.lost else "failed"
        bars.append(scale.bar(moment, moment, 0, STEP_HEIGHT, "end", f"{what}, {instance.verdict}"))
    lanes = 0
    for use, lane in _in_lanes(instance.tests):
        y = STEP_HEIGHT + GAP + lane * (LANE_HEIGHT + 1)
        lanes = max(lanes, lane + 1)
        if use.waited_s > 0.05:
            waits = f"{use.test} waited"
            bars.append(scale.bar(use.start - use.waited_s, use.start, y + 2, LANE_HEIGHT - 4, "wait", waits))
        bars.append(scale.bar(use.start, use.end, y, LANE_HEIGHT, "use", use.test))
    return Row(instance, STEP_HEIGHT + (GAP + lanes * (LANE_HEIGHT + 1) if lanes else 0), bars)


def _in_lanes(uses: Iterable[Used]) -> list[tuple[Used, int]]:
    """Each use with the first lane that is free; where all are taken, with the one that is free first."""
    free: list[float] = []
    found = []
    for use in sorted(uses, key=lambda use: use.start):
        lane = next((at for at, until in enumerate(free) if until <= use.start), len(free))
        if lane == LANES:
            lane = min(range(LANES), key=free.__getitem__)
        if lane == len(free):
            free.append(0.0)
        free[lane] = max(free[lane], use.end)
        found.append((use, lane))
    return found


def _ticks(seconds: float) -> Iterable[Tick]:
    step = next((each for each in _ROUND if seconds / each <= 6), seconds / 4)
    at = 0.0
    while at <= seconds * 0.97:
        yield Tick(round(100 * at / seconds, 2), "0" if not at else f"{at:g} s" if step < 60 else f"{at / 60:g} min")
        at = round(at + step, 6)
