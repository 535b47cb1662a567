"""How often a comparison is red where nothing changed, and how often it finds what did: a simulation, seeded.

``python -m tests.benchmarks.regressions`` simulates 1,000 comparisons of a version with itself, and 1,000 with one that
is 5 % slower, for each kind of noise, and judges them as ``vast_compare`` does: six rounds on a host, a second
host only where one is needed. Each round has eight windows, A B B A B A A B. The logarithm of a window's time is the
sum of

- the host's own speed: a standard deviation of 8 %, or of 22 %;
- what the start of the side's server in this round has brought: 1 %;
- noise of 3 %, half of its variance from window to window (AR(1), 0.7), the other half anew for each metric;
- for 2 % of the windows an outlier: up to 30 % more;
- one of two states of the clock, which are 6 % apart: a host changes it after 10 windows on average.

Three metrics are gated at 5 %, and a comparison is red where any of them is. Other rules judge the same windows of
first hosts: what CI does with a single host, which is another one than that of the stored numbers.

It ends with 1 where :data:`GOALS` are missed. What must be found is a server that is slower in all three metrics; one
that is slower in a single one is found less often, which the table shows.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.measuring.comparing import comparison
from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.comparing.comparison import Round
from pytest_vastgpu.measuring.comparing.comparison import Rules
from pytest_vastgpu.measuring.comparing.comparison import judge
from pytest_vastgpu.measuring.comparing.comparison import needs_second_host
from pytest_vastgpu.measuring.comparing.comparison import round_of
from pytest_vastgpu.measuring.comparing.plan import ComparisonPlan
from pytest_vastgpu.measuring.comparing.ratios import Estimate

METRICS = ("throughput", "ttft_p50", "e2e_p50")
BETTER = {"throughput": 1}
GATE = 0.05
GATES = dict.fromkeys(METRICS, GATE)
TYPICAL = math.exp(0.03)
"""Half of all windows of equal hosts take longer: what a fixed threshold starts from."""
PLAN = ComparisonPlan()


@dataclass(frozen=True)
class Noise:
    """What makes windows differ. Standard deviations of the logarithm of a time."""

    host: float = 0.08
    start: float = 0.01
    restarts: bool = False
    """Whether a side's server starts once more with each change of sides, and not once in a round."""
    window: float = 0.03
    correlation: float = 0.7
    """Of the half of the window's noise that lasts."""
    outliers: float = 0.02
    outlier: float = 0.30
    clocks: float = 0.06
    """Between the two states."""
    clock_changes: float = 0.1
    """How likely the state changes from a window to the next."""
    first: float = 0.0
    """By how much slower the first window after each start of a server is."""
    by_host: float = 0.0
    """How differently hosts take the same slowdown."""


@dataclass(frozen=True)
class Host:
    """A host with its rounds, and with all windows of each side for rules that know no rounds."""

    measured: HostRounds
    baseline: Sequence[float]
    """Times of one metric."""
    candidate: Sequence[float]


def simulate(dice: random.Random, machine: int, noise: Noise, slower: Mapping[str, float], rounds: int) -> Host:
    """One host.

    :param slower: By metric; 0.05: the candidate takes 5 % longer.
    """
    speed, lasting, slow_clock = dice.gauss(0, noise.host), dice.gauss(0, 1), dice.random() < 0.5
    taken = dice.gauss(0, noise.by_host) if slower else 0.0
    each, fresh = noise.window * math.sqrt(0.5), math.sqrt(1 - noise.correlation**2)
    found, times = list[Round](), {"A": list[float](), "B": list[float]()}
    for _ in range(rounds):
        starts = dict[str, float]()
        windows = {"A": list[dict[str, float]](), "B": list[dict[str, float]]()}
        for side, is_first in _windows():
            if side not in starts or (noise.restarts and is_first):
                starts[side] = speed + taken * (side == "B") + dice.gauss(0, noise.start)
            lasting = noise.correlation * lasting + fresh * dice.gauss(0, 1)
            slow_clock ^= dice.random() < noise.clock_changes
            common = starts[side] + each * lasting + noise.clocks * slow_clock + noise.first * is_first
            if dice.random() < noise.outliers:
                common += math.log1p(noise.outlier * dice.random())
            window = {
                metric: math.exp(common + dice.gauss(0, each)) * (1 + (side == "B") * slower.get(metric, 0))
                for metric in METRICS
            }
            times[side].append(window[METRICS[0]])
            windows[side].append({metric: 1 / t if metric in BETTER else t for metric, t in window.items()})
        found.append(round_of(windows["A"], windows["B"]))
    return Host(HostRounds(machine, found), times["A"], times["B"])


def _windows() -> Iterator[tuple[str, bool]]:
    """The side of each window of a round, and whether it is the first after a start of its server."""
    for _, windows in PLAN.starts:
        yield from ((side, not at) for at, side in enumerate(windows))


@dataclass(frozen=True)
class Comparison:
    """One comparison as ``vast_compare`` makes it."""

    judged: Sequence[Judged]
    first: Host
    second: Host
    """What was measured there counts only if :attr:`confirmed`; other rules have their stored numbers from there."""
    confirmed: bool

    @property
    def red(self) -> bool:
        return any(each.finding is Finding.REGRESSION for each in self.judged)


def comparisons(
    number: int,
    noise: Noise,
    slower: Mapping[str, float] | None = None,
    rounds: int = 6,
    seed: int = 1,
    gates: Mapping[str, float] = GATES,
    rules: Rules = comparison.RULES,
) -> Iterator[Comparison]:
    """So many comparisons; the same ones each time.

    :param slower: As of :func:`simulate`. None: both sides are the same.
    """
    dice = random.Random(seed)
    for _ in range(number):
        first, second = (simulate(dice, machine, noise, slower or {}, rounds) for machine in (1, 2))
        judged = judge([first.measured], gates, BETTER, rules)
        if confirmed := needs_second_host(judged):
            judged = judge([first.measured, second.measured], gates, BETTER, rules)
        yield Comparison(judged, first, second, confirmed)


SETTINGS: Mapping[str, Noise] = {
    "hosts differ by 8 %": Noise(),
    "hosts differ by 22 %": Noise(host=0.22),
    "starts differ by 2 %": Noise(start=0.02),
    "starts differ by 2 %, one at each change of sides": Noise(start=0.02, restarts=True),
    "noise of 6 %": Noise(window=0.06),
    "starts differ by 2 %, noise of 6 %": Noise(start=0.02, window=0.06),
    "each window has any clock": Noise(clock_changes=0.5),
    "clock changes after 100 windows": Noise(clock_changes=0.01),
    "first window after a start 8 % slower": Noise(first=0.08),
    "first window after a start 8 % quicker": Noise(first=-0.08),
    "quiet, first window after a start 8 % slower": Noise(start=0.002, window=0.005, outliers=0, clocks=0, first=0.08),
    "hosts take the slowdown differently, by 2 %": Noise(by_host=0.02),
}

MISSED = "no"
MOST_RED = 0.01
"""Share of comparisons of equal sides that may be red, in each setting of :data:`GOALS`."""
GOALS = {
    "hosts differ by 8 %": 0.95,
    "hosts differ by 22 %": 0.95,
    "starts differ by 2 %": 0.0,
    "noise of 6 %": 0.0,
}
"""Share of candidates 5 % slower in all metrics that must be found, by setting. Where it is 0, it is only told."""

_mean = statistics.fmean
RULES: Mapping[str, Callable[[Comparison], bool]] = {
    "a second host confirms": lambda c: c.red,
    "fixed threshold: 5 % above what is typical": lambda c: _mean(c.first.candidate) > 1.05 * TYPICAL,
    "mean:5%, stored on another host": lambda c: _mean(c.first.candidate) > 1.05 * _mean(c.second.baseline),
    "mean:5%, same host, a window each": lambda c: c.first.candidate[0] > 1.05 * c.first.baseline[0],
    "mean:5%, same host, 24 windows each": lambda c: _mean(c.first.candidate) > 1.05 * _mean(c.first.baseline),
    "20 %, stored on another host": lambda c: _mean(c.first.candidate) > 1.2 * _mean(c.second.baseline),
}
"""``mean:5%`` is pytest-benchmark's ``--benchmark-compare-fail``."""


def equal(number: int, noise: Noise, seed: int = 1) -> list[Comparison]:
    """Of a version with itself."""
    return list(comparisons(number, noise, seed=seed))


def slower(number: int, noise: Noise, metrics: Sequence[str] = METRICS) -> list[Comparison]:
    """Of a version with one that is 5 % slower in these metrics."""
    return list(comparisons(number, noise, dict.fromkeys(metrics, GATE), seed=2))


def by_goal(number: int) -> Iterator[Sequence[object]]:
    """What must be kept: the same as these settings' lines in :func:`by_noise`."""
    yield "noise", "equal: red", "at most", "5 % slower: red", "at least", "kept"
    for name, share in GOALS.items():
        most, least = math.floor(MOST_RED * number), math.ceil(share * number)
        red, found = _red(equal(number, SETTINGS[name])), _red(slower(number, SETTINGS[name]))
        yield name, red, most, found, least, "yes" if red <= most and found >= least else MISSED


def by_noise(number: int) -> Iterator[Sequence[object]]:
    yield "noise", "equal: red", "equal: second host", "5 % slower: red", "one metric 5 % slower: red"
    for name, noise in SETTINGS.items():
        same = equal(number, noise)
        found = (_red(slower(number, noise)), _red(slower(number, noise, METRICS[1:2])))
        yield name, _red(same), sum(each.confirmed for each in same), *found


def by_rule(number: int) -> Iterator[Sequence[object]]:
    yield "rule", *(f"{head}: {what}" for head in list(SETTINGS)[:2] for what in ("equal", "5 % slower"))
    both = [compare(number, noise) for noise in list(SETTINGS.values())[:2] for compare in (equal, slower)]
    for name, is_red in RULES.items():
        yield name, *(sum(map(is_red, compared)) for compared in both)


def by_rounds(number: int) -> Iterator[Sequence[object]]:
    yield (
        "rounds a host",
        "minutes a host",
        "sees (8 of 10)",
        "of such: red",
        "equal: red",
        "5 % slower: red",
    )
    metric = METRICS[1]
    for rounds in (3, 4, 6, 8, 12, 20):
        minutes = rounds * len(PLAN.windows) * 10 / 60
        same = list(comparisons(number, Noise(), rounds=rounds, gates={metric: GATE}))
        sees = statistics.median(each.judged[0].resolves for each in same)
        small = comparisons(number, Noise(), {metric: sees}, rounds, seed=3, gates={metric: sees})
        large = comparisons(number, Noise(), {metric: GATE}, rounds, seed=4, gates={metric: GATE})
        yield rounds, f"{minutes:.0f}", f"{100 * sees:.1f} %", _red(small), _red(same), _red(large)


VARIANTS: Mapping[str, Rules] = {
    "these rules": comparison.RULES,
    "suspected: p < 0.05": Rules(suspected_p=0.05),
    "suspected: p < 0.20": Rules(suspected_p=0.2),
    "regression: p < 0.005": Rules(regression_p=0.005),
    "regression: p < 0.02": Rules(regression_p=0.02),
    "regression: p < 0.05": Rules(regression_p=0.05),
    "any slowdown on each host": Rules(share=0),
    "a quarter of the gate on each host": Rules(share=0.25),
    "two thirds of the gate on each host": Rules(share=0.67),
    "also where it is surely smaller than the gate": Rules(smaller_p=0),
}


def by_threshold(number: int) -> Iterator[Sequence[object]]:
    """What other thresholds would give."""
    noisy, quiet = Noise(start=0.02, window=0.06), Noise(start=0.002, window=0.005, outliers=0, clocks=0)
    less = dict.fromkeys(METRICS, 0.6 * GATE)
    worse = dict.fromkeys(METRICS, GATE)
    yield (
        "rule", "equal: red", "equal: second host", "5 % slower: red",
        "noisy, equal: red", "noisy, 5 % slower: red", "quiet, 3 % slower: red",
    )  # fmt: skip
    for name, rules in VARIANTS.items():
        same = list(comparisons(number, Noise(), rules=rules))
        others: list[tuple[Noise, Mapping[str, float]]]
        others = [(Noise(), worse), (noisy, {}), (noisy, worse), (quiet, less)]
        reds = (_red(comparisons(number, noise, slower, seed=5, rules=rules)) for noise, slower in others)
        yield name, _red(same), sum(each.confirmed for each in same), *reds


def by_interval(number: int) -> Iterator[Sequence[object]]:
    """How often the lower end of a 95 % interval is above 0 where both sides are equal: 2.5 % would be right."""
    dice = random.Random(6)
    same = [each.first for each in comparisons(number, Noise())]
    rounds = [_ratios(host) for host in same]
    windows = [[math.log(b / a) for a, b in zip(host.baseline, host.candidate, strict=True)] for host in same]
    yield "interval", "equal: above 0"
    yield "Student's t over rounds", sum(_low(each) > 0 for each in rounds)
    yield "Student's t over windows, as if they were independent", sum(_low(each) > 0 for each in windows)
    yield "percentile bootstrap over rounds", sum(_bootstrapped(each, dice) > 0 for each in rounds)
    yield "percentile bootstrap over 3 rounds", sum(_bootstrapped(each[:3], dice) > 0 for each in rounds)


def _ratios(host: Host) -> list[float]:
    metric = METRICS[1]
    return [each.candidate[metric] - each.baseline[metric] for each in host.measured.rounds]


def _low(values: Sequence[float]) -> float:
    estimate = Estimate.of([values])
    return estimate.mean - estimate.reach(0.975)


def _bootstrapped(values: Sequence[float], dice: random.Random) -> float:
    means = sorted(_mean(dice.choices(values, k=len(values))) for _ in range(400))
    return means[10]


def _red(compared: Iterable[Comparison]) -> int:
    return sum(each.red for each in compared)


TABLES: Mapping[str, Callable[[int], Iterator[Sequence[object]]]] = {
    "goal": by_goal,
    "noise": by_noise,
    "rule": by_rule,
    "rounds": by_rounds,
    "threshold": by_threshold,
    "interval": by_interval,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.regressions", description=__doc__)
    parser.add_argument("--number", type=int, default=1000, metavar="N", help="comparisons of each kind")
    parser.add_argument("--only", choices=TABLES, help="this table only")
    arguments = parser.parse_args(argv)
    missed = False
    for name in [arguments.only] if arguments.only else TABLES:
        sys.stdout.write(f"Of {arguments.number:,} comparisons, by {name}:\n\n")
        for at, line in enumerate(TABLES[name](arguments.number)):
            sys.stdout.write(f"| {' | '.join(map(str, line))} |\n" + "| --- " * len(line) * (not at) + "|\n" * (not at))
            sys.stdout.flush()
            missed |= line[-1] == MISSED
        sys.stdout.write("\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
