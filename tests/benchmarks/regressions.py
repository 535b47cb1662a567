"""How often a comparison is red where nothing changed, and how often it finds what did: a simulation, seeded.

``python -m tests.benchmarks.regressions`` simulates 1,000 comparisons of a version with itself, and 1,000 with one that
is 5 % slower, for each kind of noise, and judges them as ``vast_compare`` does: six rounds on a host, a second
host only where one is needed. Each round is two blocks A B B A of windows. The logarithm of a window's time is the sum
of

- the host's own speed: a standard deviation of 8 %, or of 22 %;
- what the start of the side's server in this round has brought: 1 %;
- noise of 3 %, half of its variance from window to window (AR(1), 0.7), the other half anew for each metric;
- for 2 % of the windows an outlier: up to 30 % more;
- one of two states of the clock, which are 6 % apart: a host changes it after 10 windows on average.

Three metrics are gated at 5 %, and a comparison is red where any of them is. Other rules judge the same windows of
first hosts: what CI does with a single host, which is another one than that of the stored numbers.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.measuring.comparison import Finding
from pytest_vastgpu.measuring.comparison import HostRounds
from pytest_vastgpu.measuring.comparison import Judged
from pytest_vastgpu.measuring.comparison import Round
from pytest_vastgpu.measuring.comparison import judge
from pytest_vastgpu.measuring.comparison import needs_second_host
from pytest_vastgpu.measuring.comparison import round_of
from tests.benchmarks import report

METRICS = ("throughput", "ttft_p50", "e2e_p50")
BETTER = {"throughput": 1}
GATE = 0.05
GATES = dict.fromkeys(METRICS, GATE)
TYPICAL = math.exp(0.03)
"""Half of all windows of equal hosts take longer: what a fixed threshold starts from."""
BLOCKS = "ABBA" * 2


@dataclass(frozen=True)
class Noise:
    """What makes windows differ. Standard deviations of the logarithm of a time."""

    host: float = 0.08
    start: float = 0.01
    window: float = 0.03
    correlation: float = 0.7
    """Of the half of the window's noise that lasts."""
    outliers: float = 0.02
    outlier: float = 0.30
    clocks: float = 0.06
    """Between the two states."""
    clock_changes: float = 0.1
    """How likely the state changes from a window to the next."""
    by_host: float = 0.0
    """How differently hosts take the same change."""


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
    taken = dice.gauss(0, noise.by_host)
    each, fresh = noise.window * math.sqrt(0.5), math.sqrt(1 - noise.correlation**2)
    found, times = list[Round](), {"A": list[float](), "B": list[float]()}
    for _ in range(rounds):
        starts = {"A": speed + dice.gauss(0, noise.start), "B": speed + taken + dice.gauss(0, noise.start)}
        windows = {"A": list[dict[str, float]](), "B": list[dict[str, float]]()}
        for side in BLOCKS:
            lasting = noise.correlation * lasting + fresh * dice.gauss(0, 1)
            slow_clock ^= dice.random() < noise.clock_changes
            common = starts[side] + each * lasting + noise.clocks * slow_clock
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
    number: int, noise: Noise, slower: Mapping[str, float] | None = None, rounds: int = 6, seed: int = 1
) -> Iterator[Comparison]:
    """So many comparisons; the same ones each time.

    :param slower: As of :func:`simulate`. None: both sides are the same.
    """
    dice = random.Random(seed)
    for _ in range(number):
        first, second = (simulate(dice, machine, noise, slower or {}, rounds) for machine in (1, 2))
        judged = judge([first.measured], GATES, BETTER)
        if confirmed := needs_second_host(judged):
            judged = judge([first.measured, second.measured], GATES, BETTER)
        yield Comparison(judged, first, second, confirmed)


SETTINGS: Mapping[str, Noise] = {
    "hosts differ by 8 %": Noise(),
    "hosts differ by 22 %": Noise(host=0.22),
    "starts differ by 2 %": Noise(start=0.02),
    "noise of 6 %": Noise(window=0.06),
    "starts differ by 2 %, noise of 6 %": Noise(start=0.02, window=0.06),
    "any window may have either clock": Noise(clock_changes=0.5),
    "the clock stays for 100 windows": Noise(clock_changes=0.01),
    "hosts take the change differently, by 2 %": Noise(by_host=0.02),
}
GOALS = {"hosts differ by 8 %": 50, "hosts differ by 22 %": 50}
"""How many of 1,000 slowdowns may be missed. Elsewhere it is only told."""
RED = 10
"""How many of 1,000 comparisons of equal sides may be red."""

_mean = statistics.fmean
RULES: Mapping[str, Callable[[Comparison], bool]] = {
    "mean:5%, stored elsewhere": lambda c: _mean(c.first.candidate) > 1.05 * _mean(c.second.baseline),
    "mean:5%, same host, all windows": lambda c: _mean(c.first.candidate) > 1.05 * _mean(c.first.baseline),
    "mean:5%, same host, one window": lambda c: c.first.candidate[0] > 1.05 * c.first.baseline[0],
    "fixed threshold": lambda c: _mean(c.first.candidate) > 1.05 * TYPICAL,
    "20 %, stored elsewhere": lambda c: _mean(c.first.candidate) > 1.2 * _mean(c.second.baseline),
}


def setting(name: str, noise: Noise, number: int) -> list[report.Row]:
    """What becomes of equal sides, and of slower ones."""
    same = list(comparisons(number, noise))
    slow = list(comparisons(number, noise, dict.fromkeys(METRICS, GATE), seed=2))
    one = list(comparisons(number, noise, {METRICS[0]: GATE}, seed=3))
    red, missed = sum(each.red for each in same), sum(not each.red for each in slow)
    per = f"of {number:,}, {name}"
    most = GOALS.get(name)
    rows = [
        report.Row(f"equal, red: {per}", red, "", most=RED, facts=_facts(same)),
        report.Row(f"equal, second host: {per}", sum(each.confirmed for each in same), ""),
        report.Row(f"5 % slower, missed: {per}", missed, "", most=most, facts=_facts(slow)),
        report.Row(f"one metric 5 % slower, missed: {per}", sum(not each.red for each in one), "", facts=_facts(one)),
    ]
    for rule, is_red in RULES.items() if name in GOALS else ():
        theirs = (sum(map(is_red, same)), sum(not is_red(each) for each in slow))
        rows += [
            report.Row(f"equal, red: {per}", red, "", theirs[0], rule),
            report.Row(f"5 % slower, missed: {per}", missed, "", theirs[1], rule),
        ]
    return rows


def _facts(compared: Sequence[Comparison]) -> dict[str, object]:
    findings = Counter(each.judged[0].finding.value for each in compared)
    return {"findings": findings, "resolves": statistics.median(each.judged[0].resolves for each in compared)}


def resolution(rounds: int, number: int) -> list[report.Row]:
    """What so many rounds a host buy: what they say they find, and whether they do."""
    same = list(comparisons(number, Noise(), rounds=rounds, seed=4))
    smallest = statistics.median(each.judged[0].resolves for each in same)
    slow = comparisons(number, Noise(), dict.fromkeys(METRICS, smallest), rounds=rounds, seed=5)
    found = sum(each.red for each in slow)
    return [
        report.Row(f"seen at all, {rounds} rounds a host", 100 * smallest, "%", facts={"found": found / number}),
        report.Row(f"missed of {number:,} of these", number - found, ""),
    ]


def rows(quick: bool) -> list[report.Row]:
    number = 20 if quick else 1_000
    found = [row for name, noise in SETTINGS.items() for row in setting(name, noise, number)]
    return found + [row for rounds in (3, 4, 6, 8, 12, 20) for row in resolution(rounds, number)]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
