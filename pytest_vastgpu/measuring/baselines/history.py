"""What a stored baseline makes us suspect. Pure: entries in, changes out.

Hosts of a kind differ, so what one of them measured says little about another. A suspicion needs more than that:
one-sided p < 0.10 for all metrics together, by Student's t with the spread between hosts. That is published (8 %) until
the history says otherwise. It is no more than a suspicion; a comparison on one host settles it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.files import Stored
from pytest_vastgpu.measuring.comparing import student
from pytest_vastgpu.measuring.comparing.comparison import RULES
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.record import Past
from pytest_vastgpu.measuring.record import to_json

FOUND = 0.8
"""So often a slowdown of the size that is told is found."""
BETWEEN_HOSTS = 0.08
"""Standard deviation of the logarithm between hosts of a kind (arXiv 2208.11035), where no history tells."""
ON_ONE_HOST = 0.03
"""The same between two starts on one host."""
WORTH = 10
"""As many saves of the history count as much as the published figure."""
LEAST_PAIRS = 5
"""Of saves, before anything is learned of them: one wild save is in two pairs, and their median does not heed it."""
BLIND = 4.0
"""A metric that must change by this factor to be suspected is not worth a word."""
UNSTEADY = ("_p90", "_p99")
"""Ends of metrics that vary too much from one run to the next."""
UNITS = frozenset({"s", "1/s", "tokens/s", "MiB"})
"""Of metrics that are a matter of the code. Money depends on the offer, power on the host."""
_MOST_DIFFERENCES = 3
"""Most differences that a sentence lists."""


@dataclass(frozen=True)
class Spread:
    """How far measurements of the same differ."""

    sigma: float
    """Standard deviation of the logarithm."""
    learned: int
    """From so many pairs of saves; 0: it is the published one."""


@dataclass(frozen=True)
class Change:
    """What became of one metric. Shares of the baseline: 0.05 is 5 % more latency, or 5 % less throughput."""

    metric: str
    now: Figure
    before: float
    """The geometric mean of the baseline's hosts."""
    slower: float
    low: float
    high: float
    """The 95 % interval of it."""
    p: float
    """One-sided: how likely so much is where nothing is slower; corrected for the number of metrics."""
    resolves: float
    """The smallest slowdown that would have been suspected in 8 of 10 cases."""
    spread: Spread
    blind: bool
    """Whether the numbers are so unsure that nearly nothing would be suspected."""


@dataclass(frozen=True)
class Against:
    """A measurement against a baseline."""

    base: Sequence[Stored] = ()
    """The baseline's measurements."""
    changes: Sequence[Change] = ()
    """Every metric that both have."""
    why: str = ""
    """Why there is nothing to compare with; empty: there is."""


def worth_keeping(entry: Entry) -> bool:
    """Whether a later measurement can be compared with it at all."""
    return any(_log(entry, metric) is not None for metric in _comparable(entry))


def history(entry: Entry, baseline: str, stored: Sequence[Stored]) -> list[Past]:
    """What was measured before, the oldest first: by the same test under the same load, on the same kind of GPU."""
    return [_past(each) for each in _alike(entry, baseline, stored)[0]]


def against(entry: Entry, baseline: str, stored: Sequence[Stored]) -> Against:
    """What has changed since a baseline.

    :param stored: Of all names, in any order.
    """
    alike, why = _alike(entry, baseline, stored)
    if not alike:
        return Against(why=why)
    base = _base(entry, alike)
    return Against(base, _changes(entry, base, alike))


def spread(metric: str, alike: Sequence[Stored], *, one_host: bool) -> Spread:
    """How far a metric differs, as the history has it.

    From each save to the next, by the median: a change of the code is one jump among many, and counts little.

    :param alike: Of one test, load and kind, in order of time.
    :param one_host: Between two saves on one machine; else between machines.
    """
    logs = [(each.entry.machine, _log(each.entry, metric)) for each in alike]
    seen = [(machine, value) for machine, value in logs if value is not None]
    steps = [abs(after - before) for (one, before), (other, after) in pairwise(seen) if (one == other) is one_host]
    usual = ON_ONE_HOST if one_host else BETWEEN_HOSTS
    if len(steps) < LEAST_PAIRS:
        return Spread(usual, 0)
    # The median of an absolute normal variable is 0.6745 of its deviation, and each step is between two of them.
    learned = statistics.median(steps) / 0.6745 / math.sqrt(2)
    return Spread(math.sqrt((WORTH * usual**2 + len(steps) * learned**2) / (WORTH + len(steps))), len(steps))


def _alike(entry: Entry, baseline: str, stored: Sequence[Stored]) -> tuple[list[Stored], str]:
    """What an entry may be compared with, in order of time, or why there is nothing."""
    found = sorted((each for each in stored if each.baseline == baseline), key=lambda each: each.when)
    if not found:
        return [], f"nothing is kept as baseline {baseline!r}"
    named = [each for each in found if (each.entry.test, each.entry.name) == (entry.test, entry.name)]
    if not named:
        return [], f"baseline {baseline!r} has nothing of this test"
    kinds = sorted({each.entry.kind for each in named})
    if entry.kind not in kinds:
        return [], f"baseline {baseline!r} is of {', '.join(kinds)}, and this is {entry.kind}: kinds are not compared"
    of_kind = [each for each in named if each.entry.kind == entry.kind]
    for what, get in _SAME:
        here = get(entry)
        same = [each for each in of_kind if get(each.entry) == here]
        if not same:
            differ = _differences(get(of_kind[-1].entry), here)
            return [], f"baseline {baseline!r} is of another {what} ({differ})"
        of_kind = same
    return of_kind, ""


_SAME: Sequence[tuple[str, Callable[[Entry], Any]]] = (
    ("workload", lambda entry: to_json(entry.workload)),
    ("load", lambda entry: to_json(entry.load)),
)


def _differences(then: Any, now: Any) -> str:
    """``concurrency: 4, now 8``."""
    before, after = dict(_flat("", then)), dict(_flat("", now))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    differences = [f"{key}: {_short(before, key)}, now {_short(after, key)}" for key in keys[:_MOST_DIFFERENCES]]
    return "; ".join([*differences, *(["…"] if len(keys) > _MOST_DIFFERENCES else [])])


def _flat(path: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), each)
    else:
        yield path, value


def _short(values: Mapping[str, object], key: str) -> str:
    return f"{values[key]!r:.60}" if key in values else "none"


def _base(entry: Entry, alike: Sequence[Stored]) -> list[Stored]:
    """The last of them, and those of the same commit; if one of them is of this machine, only those of it."""
    last = alike[-1]
    base = [each for each in alike if each is last or (last.commit and each.commit == last.commit)]
    return [each for each in base if each.entry.machine == entry.machine] or base


def _comparable(entry: Entry) -> list[str]:
    return [
        metric
        for metric, figure in entry.figures.items()
        if figure.better and figure.unit in UNITS and not metric.endswith(UNSTEADY) and figure.value >= 0
    ]


def _changes(entry: Entry, base: Sequence[Stored], alike: Sequence[Stored]) -> list[Change]:
    metrics = [metric for metric in _comparable(entry) if any(_log(each.entry, metric) is not None for each in base)]
    return [_change(metric, entry, base, alike, len(metrics)) for metric in metrics]


def _change(metric: str, entry: Entry, base: Sequence[Stored], alike: Sequence[Stored], metrics: int) -> Change:
    now = entry.figures[metric]
    one_host = base[0].entry.machine == entry.machine
    usual = spread(metric, alike, one_host=one_host)
    by_host: dict[str, list[float]] = {}
    for each in base:
        if (value := _log(each.entry, metric)) is not None:
            by_host.setdefault(each.entry.machine, []).append(value)
    # Saves on one machine are several of this one; on several machines each of these counts once.
    values = next(iter(by_host.values())) if one_host else [statistics.fmean(each) for each in by_host.values()]
    before = statistics.fmean(values)
    figures = [each.entry.figures[metric] for each in base if _log(each.entry, metric) is not None]
    theirs = (_error(figure) / len(figures) for figure in figures)
    error = math.hypot(usual.sigma * math.sqrt(1 + 1 / len(values)), _error(now), *theirs)
    df = WORTH + usual.learned
    worse = (before - math.log(now.value)) * now.better if now.value else math.inf * now.better
    reach = student.quantile(0.975, df) * error
    least = (student.quantile(1 - RULES.suspected_p / metrics, df) + student.quantile(FOUND, df)) * error
    shown = _share(now.better)
    return Change(
        metric=metric,
        now=now,
        before=math.exp(before),
        slower=shown(worse),
        low=shown(worse - reach),
        high=shown(worse + reach),
        p=min(1.0, metrics * student.cdf(-worse / error, df)),
        resolves=shown(least),
        spread=usual,
        blind=least > math.log(BLIND),
    )


def _share(better: int) -> Callable[[float], float]:
    """Turns a logarithm, above 0 for worse, into a share of the baseline."""
    return (lambda worse: -math.expm1(-worse)) if better > 0 else math.expm1


def _log(entry: Entry, metric: str) -> float | None:
    figure = entry.figures.get(metric)
    return math.log(figure.value) if figure is not None and figure.value > 0 else None


def _error(figure: Figure) -> float:
    """Standard error of the logarithm, from the interval. 0 for an exact figure."""
    if not figure.value:
        return 0.0
    apart = (figure.high - figure.low) / figure.value
    width = math.log(figure.high / figure.low) if 0 < figure.low <= figure.high else abs(apart)
    return width / (2 * 1.96)


def _past(stored: Stored) -> Past:
    machine = stored.entry.machine
    number = int(machine) if machine.isascii() and machine.isdigit() else 0
    return Past(stored.commit, stored.when, stored.entry.figures, number)
