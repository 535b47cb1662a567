"""The pictures of a report: how long requests took, throughput over load, A against B, a metric over commits. Pure."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from itertools import groupby

from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import difference
from pytest_vastgpu.measuring.figures import scale
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import Past
from pytest_vastgpu.measuring.record import to_json
from pytest_vastgpu.reporting import svg
from pytest_vastgpu.reporting.measured_words import metric_name
from pytest_vastgpu.reporting.measured_words import slowdown
from pytest_vastgpu.reporting.measured_words import tick

HEIGHT = 220
SERIES = 4
"""Colours of lines that are in one picture; a request has no more times than that."""
_TOP, _BOTTOM, _RIGHT = 28, HEIGHT - 40, svg.WIDTH - 12
_WIDE = 10.0
"""Times whose longest is so many times the shortest are shown on a logarithmic axis."""
OVER_TIME = ("output_throughput", "throughput", "e2e_p50")
"""The metric that is shown over load and over commits: the first of these that was measured."""
OLDEST = 100
"""So many earlier measurements are shown."""
_MOST = 0.5
"""A picture of slowdowns reaches so far, or to twice the gate; what is beyond is at its edge."""
_ROW = 46
"""Height of a metric in the picture of a comparison."""

_OF_ANSWERS = ("itl",)
"""Times of which a request that failed has none."""

COLOURED = {
    Finding.REGRESSION: ("#b3261e", "#ff8a80"),
    Finding.IMPROVEMENT: ("#1b6e3c", "#7bd49a"),
    Finding.NOISE: ("#5f6368", "#b0b5ba"),
    Finding.INCONCLUSIVE: ("#8a5a00", "#f2c14e"),
    Finding.HARDWARE: ("#6a3fa0", "#c7a6f5"),
}
"""The colour of a finding on light and on dark ground. A finding is named wherever it is coloured."""


def distribution(found: Measurement) -> str:
    """Which part of the requests took how long at most. Empty where no time was kept.

    Marked are the quantiles among the figures alone: others are too unsure to be told.
    """
    curves = {name: values for name, values in found.quantiles.items() if len(values) > 1}
    if not curves:
        return ""
    marked = {
        (name, rank): figure
        for name in curves
        for rank in (50, 90, 99)
        if (figure := found.figures.get(f"{name}_p{rank}")) is not None and math.isfinite(figure.value)
    }
    every = [*(figure.value for figure in marked.values()), *chain.from_iterable(curves.values())]
    shortest, longest = min(every), max(every)
    answered = _answered(found)
    log = shortest > 0 and longest > _WIDE * shortest
    factor, unit = scale(longest, "s")
    left = svg.left_of([(0, "100 %")])
    x = svg.Axis(shortest if log else 0.0, longest or 1.0, left, _RIGHT, log)
    y = svg.Axis(0, 100, _BOTTOM, _TOP)
    body = [svg.left_axis(y, [(each, f"{each} %") for each in (0, 50, 90, 100)], _RIGHT)]
    if log:
        body.append(svg.bottom_axis(x, [(each, _round_time(each)) for each in x.ticks()], _TOP, _BOTTOM))
    else:
        scaled = svg.Axis(0.0, x.high / factor, left, _RIGHT)
        body.append(svg.bottom_axis(scaled, [(each, tick(each)) for each in scaled.ticks()], _TOP, _BOTTOM))
        body.append(svg.text(_RIGHT, HEIGHT - 6, unit, "tick", "end"))
    free = left
    for at, (name, values) in enumerate(list(curves.items())[:SERIES]):
        last = len(values) - 1
        kind = f"series{at % SERIES}"
        part = 100 if name in _OF_ANSWERS else 100 * answered
        body.append(svg.path(((x.at(each), y.at(part * rank / last)) for rank, each in enumerate(values)), kind))
        for (whose, rank), figure in marked.items():
            if whose == name:
                told = f"{metric_name(name)} p{rank}: {figure}"
                body.append(svg.point(x.at(figure.value), y.at(rank), f"{kind} dot", told))
        legend = f"● {metric_name(name)}"
        body.append(svg.text(free, 14, legend, f"{kind} words", most=14))
        free += svg.wide(legend) + 10
    told = "; ".join(f"{metric_name(name)} p{rank}: {figure}" for (name, rank), figure in marked.items())
    return svg.picture("How long requests took: part of all that took at most so long", HEIGHT, "".join(body), told)


def _answered(found: Measurement) -> float:
    """The share of requests that were answered: the others took longer than any."""
    asked, failed = (found.figures[name].value if name in found.figures else 0.0 for name in ("requests", "errors"))
    return asked / (asked + failed) if asked > 0 and failed > 0 else 1.0


def _round_time(seconds: float) -> str:
    factor, unit = scale(seconds, "s")
    return f"{tick(seconds / factor)} {unit}"


def over_load(measured: Sequence[Measured]) -> list[str]:
    """Throughput over concurrency, or over the rate of an open loop: a picture for each series of measurements that
    differ in nothing else.
    """
    series: dict[tuple[str, str, str, bool], list[Measured]] = {}
    for each in measured:
        load = each.measurement.load
        same = json.dumps({**to_json(load), "concurrency": None, "rate": None})
        key = (each.workload, each.gpu, same, load.concurrency > 0)
        series.setdefault(key, []).append(each)
    return [_over(*key[:2], group) for key, group in series.items() if len(set(map(_pace, group))) > 1]


def _over(workload: str, gpu: str, group: Sequence[Measured]) -> str:
    metric = _telling(group[0].measurement.figures)
    known = sorted((each for each in group if metric in each.measurement.figures), key=_pace)
    if not known:
        return ""
    points = [(_pace(each), each.measurement.figures[metric], f"{_pace(each):g}") for each in known]
    over = "requests at a time" if known[0].measurement.load.concurrency else "requests sent a second"
    title = f"{_at_start(metric_name(metric))} over {over}: {', '.join(filter(None, [workload, gpu]))}"
    return _figures(title, points, [(pace, name) for pace, _, name in points], over)


def _pace(record: Measured) -> float:
    return record.measurement.load.concurrency or record.measurement.load.rate


def _at_start(words: str) -> str:
    return words[:1].upper() + words[1:]


def with_shown_history(record: Measured) -> Measured:
    """A measurement with no more of its history than :func:`over_commits` shows: each report carries it."""
    metric = _telling(record.measurement.figures)
    past = [each for each in record.history if metric in each.figures][-OLDEST:]
    return replace(record, history=[replace(each, figures={metric: each.figures[metric]}) for each in past])


def over_commits(record: Measured) -> str:
    """One metric over the commits at which it was measured, this run's last. Empty where there is no earlier one."""
    metric = _telling(record.measurement.figures)
    past = [each for each in record.history if metric in each.figures]
    if not past:
        return ""
    seen = [
        *((each.figures[metric], each.commit[:7] or each.when[:10], _told(each)) for each in past),
        (record.measurement.figures[metric], "now", f"this run{_machine(record.machine_id)}"),
    ]
    points = [(float(at), figure, told) for at, (figure, _, told) in enumerate(seen)]
    # The newest first: where there is no room for all, older ones go without.
    labels = [(float(at), name) for at, (_, name, _) in reversed(list(enumerate(seen)))]
    title = f"{_at_start(metric_name(metric))} over commits, each on the machine that was rented"
    return _figures(title, points, labels, "", near=True)


def _told(past: Past) -> str:
    return f"{past.commit[:12] or 'no commit'}, {past.when}{_machine(past.machine_id)}"


def _machine(machine_id: int) -> str:
    return f", machine {machine_id}" if machine_id else ""


def _telling(figures: Mapping[str, Figure]) -> str:
    return next((each for each in OVER_TIME if each in figures), "")


def _figures(
    title: str,
    points: Sequence[tuple[float, Figure, str]],
    labels: Sequence[tuple[float, str]],
    under: str,
    *,
    near: bool = False,
) -> str:
    """Figures with their intervals, and a line through them.

    :param points: Where each is, what it is, and how it is named.
    :param near: Whether small differences are to be seen, and not how the values compare with 0.
    """
    points = [each for each in points if math.isfinite(each[1].value)]
    if not points:
        return ""
    edges = [_finite(edge, figure.value) for _, figure, _ in points for edge in (figure.low, figure.value, figure.high)]
    factor, unit = scale(max(edges), points[0][1].unit)
    margin = 0.5 * (max(edges) - min(edges))
    y = svg.Axis(max(0.0, min(edges) - margin) if near else 0.0, max(edges) * 1.05 or 1.0, _BOTTOM, _TOP)
    scaled = svg.Axis(y.low / factor, y.high / factor, _BOTTOM, _TOP)
    marks = [(each, tick(each)) for each in scaled.ticks()]
    left = svg.left_of(marks)
    x = svg.Axis(points[0][0], points[-1][0], left + 12, _RIGHT - 14)
    body = [
        svg.left_axis(scaled, marks, _RIGHT),
        svg.bottom_axis(x, labels, _TOP, _BOTTOM),
        svg.text(4, 14, unit, "tick"),
        svg.text(_RIGHT, HEIGHT - 6, under, "tick", "end"),
        svg.path(_through(x, y, points), "series0"),
    ]
    for at, figure, name in points:
        place = x.at(at)
        low, high = (y.at(_finite(edge, figure.value)) for edge in (figure.low, figure.high))
        body.append(svg.line(place, low, place, high, "series0 interval"))
        body.append(svg.point(place, y.at(figure.value), "series0 dot", f"{name}: {figure}"))
    told = "; ".join(f"{name}: {figure}" for _, figure, name in points)
    return svg.picture(title, HEIGHT, "".join(body), told)


def _through(x: svg.Axis, y: svg.Axis, points: Sequence[tuple[float, Figure, str]]) -> Iterator[tuple[float, float]]:
    """A line through the mean of what is at each place."""
    for place, group in groupby(points, key=lambda each: each[0]):
        yield x.at(place), y.at(statistics.mean(figure.value for _, figure, _ in group))


def against(judged: Sequence[Judged]) -> str:
    """A against B: each gated metric's slowdown with its interval and what each host saw, beside 0 and its gate."""
    known = [each for each in judged if each.rounds and math.isfinite(each.slowdown)]
    if not known:
        return ""
    most = max(_MOST, *(2 * each.gate for each in known))
    edges = [min(max(edge, -most), most) for each in known for edge in (0.0, each.gate, each.low, each.high)]
    finite = [edge for edge in edges if math.isfinite(edge)]
    margin = 0.05 * (max(finite) - min(finite))
    x = svg.Axis(100 * (min(finite) - margin), 100 * (max(finite) + margin), 14, svg.WIDTH - 14)
    bottom = 8 + _ROW * len(known)
    body = [
        svg.bottom_axis(x, [(each, f"{each:+g} %" if each else "0") for each in x.ticks()], 4, bottom),
        svg.line(x.at(0), 4, x.at(0), bottom, "zero"),
        *(_slowdown(each, x, 4 + _ROW * at) for at, each in enumerate(known)),
        svg.text(14, bottom + 34, "← quicker", "tick"),
        svg.text(svg.WIDTH / 2, bottom + 34, "┆ gate", "tick", "middle"),
        svg.text(_RIGHT, bottom + 34, "candidate slower →", "tick", "end"),
    ]
    told = "; ".join(f"{metric_name(each.metric)}: {slowdown(each)}, {each.finding.value}" for each in known)
    return svg.picture("Slowdown with its 95 % interval, and what each host saw", bottom + 42, "".join(body), told)


def _slowdown(judged: Judged, x: svg.Axis, top: float) -> str:
    kind, middle, gate = judged.finding.value, top + 30, x.at(100 * judged.gate)
    low, high = 100 * _finite(judged.low, -math.inf), 100 * _finite(judged.high, math.inf)
    told = f"{metric_name(judged.metric)}: {slowdown(judged)}, gate {difference(judged.gate)}"
    places = {machine: judged.places.get(machine, f"machine {machine}") for machine in judged.hosts}
    hosts = {f"{places[machine]}: {difference(each)}": each for machine, each in judged.hosts.items()}
    return "".join(
        [
            svg.text(x.start, top + 14, f"{metric_name(judged.metric)}: {kind}", f"{kind} words"),
            svg.line(gate, top + 20, gate, top + 44, "gate"),
            svg.line(x.at(low), middle, x.at(high), middle, f"{kind} interval"),
            svg.point(x.at(100 * judged.slowdown), middle, f"{kind} dot", told, 5),
            *(svg.point(x.at(100 * each), middle + 10, f"{kind} dot", words, 3) for words, each in hosts.items()),
        ]
    )


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise
