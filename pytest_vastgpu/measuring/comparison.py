"""What two sides differ in, and how sure that is. Pure: values of windows in, one of five findings out.

All is computed on logarithms, so that a slowdown is the same on a quick host and on a slow one. A round is one
observation: its windows share the start of their servers, and are not independent. Rounds of a host give Student's t;
hosts count alike. ``python -m tests.benchmarks.regressions`` shows how often these rules err.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum

from pytest_vastgpu.measuring import student

SUSPECTED_P = 0.10
"""Below it, one-sided, a first host raises a suspicion."""
SUSPECTED_SHARE = 0.4
"""So much of the gate a suspected slowdown is at least."""
REGRESSION_P = 0.01
"""Below it, one-sided and over all hosts, a suspicion is confirmed."""
REGRESSION_SHARE = 0.5
"""So much of the gate a regression is at least."""
CONFIRMED_SHARE = 0.25
"""So much of the gate each host sees of a regression."""
STEADIEST = 0.001
"""No host repeats a round more exactly, whatever a few rounds say: standard deviation of the logarithm of a ratio."""
MOST_ROUNDS = 100
"""Where more rounds were needed, rounds are no way to settle it."""


class Finding(StrEnum):
    """What a comparison has found for a metric."""

    REGRESSION = "regression"
    """The candidate is worse, and a second host says so, too. The only one that turns a test red."""
    IMPROVEMENT = "improvement"
    NOISE = "noise"
    """The interval excludes the gate: if there is a difference, it is smaller."""
    INCONCLUSIVE = "inconclusive"
    """The interval holds the gate: more rounds, or a second host, would tell."""
    HARDWARE = "hardware"
    """The host was no fair place: its check failed, or it throttled."""


@dataclass(frozen=True)
class Round:
    """One round on one host: both sides were started afresh, and measured in A B B A blocks. :func:`round_of` makes it.

    A round is what counts as one observation: windows of the same start are not independent.
    """

    baseline: Mapping[str, float]
    """Each metric's logarithm, the median over its windows, by the metric's name; -inf: the metric was 0."""
    candidate: Mapping[str, float]


@dataclass(frozen=True)
class HostRounds:
    """What was measured on one host."""

    machine_id: int
    rounds: Sequence[Round]
    unfair: str = ""
    """Why the host is no fair place, in a sentence; empty: it is."""


@dataclass(frozen=True)
class Judged:
    """One gated metric. Its numbers say nothing where :attr:`rounds` is 0."""

    metric: str
    gate: float
    """The slowdown that counts: 0.05 is 5 %."""
    finding: Finding
    slowdown: float
    """Estimated, as a share of the baseline: 0.05 is 5 % more latency, or 5 % less throughput. Below 0: better."""
    low: float
    high: float
    """The 95 % interval of the slowdown."""
    p: float
    """One-sided: how likely so much slowdown is where there is none (after Holm)."""
    resolves: float
    """The smallest slowdown that this many rounds a host, on two hosts, find in 8 of 10 cases."""
    confirm: bool = False
    """Whether a second host is needed to say *regression*."""
    why: str = ""
    """What the finding rests on, in a sentence."""
    rounds: int = 0
    """How many rounds count, of all fair hosts."""
    settles_rounds: int = 0
    """Rounds a host that would settle it in 8 of 10 cases; 0: it is settled, or rounds do not settle it."""
    settles_hosts: int = 0
    """On so many hosts, each measured anew."""
    hosts: Mapping[int, float] = field(default_factory=dict)
    """The slowdown that each fair host saw, by machine id."""


def round_of(baseline: Sequence[Mapping[str, float]], candidate: Sequence[Mapping[str, float]]) -> Round:
    """One round, of the metrics of each side's windows. The median lets no single window count that met an outlier."""
    return Round(_medians(baseline), _medians(candidate))


def judge(hosts: Sequence[HostRounds], gates: Mapping[str, float], better: Mapping[str, int]) -> list[Judged]:
    """What each gated metric shows, in the order of the gates.

    :param hosts: In the order in which they were measured.
    :param gates: The slowdown that counts, above 0 and below 1, by the metric's name.
    :param better: 1: more of the metric is better; -1 (also where it is not named): less is.
    """
    fair = [host for host in hosts if not host.unfair]
    seen = [_Seen.of(metric, gate, better.get(metric, -1), fair) for metric, gate in gates.items()]
    whole = [each.estimate(each.hosts) for each in seen]
    first = [each.estimate(dict(list(each.hosts.items())[:1])) for each in seen]
    worse = _holm([estimate and estimate.p() for estimate in whole])
    better_ = _holm([estimate and 1 - estimate.p() for estimate in whole])
    suspected = _holm([estimate and estimate.p() for estimate in first])
    unfair = next((host.unfair for host in hosts if host.unfair), "")
    return [
        _judge(each, whole[at], first[at], worse[at], better_[at], suspected[at], unfair)
        for at, each in enumerate(seen)
    ]


def needs_second_host(judged: Sequence[Judged]) -> bool:
    """Whether a metric is suspected, so that only a second host can tell."""
    return any(each.confirm for each in judged)


def would_settle(judged: Sequence[Judged]) -> tuple[int, int]:
    """What settles all that is open: rounds a host, and hosts. (0, 0): nothing is open, or rounds do not settle it."""
    return max((each.settles_rounds for each in judged), default=0), max(
        (each.settles_hosts for each in judged), default=0
    )


@dataclass(frozen=True)
class _Estimate:
    """The mean of a logarithm, and how sure it is."""

    mean: float
    error: float
    """Standard error of the mean."""
    df: float

    def p(self, against: float = 0.0) -> float:
        """One-sided: how likely a mean as high is where ``against`` is true."""
        return student.cdf((against - self.mean) / self.error, self.df)

    def reach(self, p: float) -> float:
        """How far above the truth a share ``1 - p`` of all means is at most."""
        return student.quantile(p, self.df) * self.error


@dataclass(frozen=True)
class _Seen:
    """What the rounds of all fair hosts say about a metric, as logarithms: above 0 is worse."""

    metric: str
    share: float
    """The gate as given."""
    more_is_better: bool
    hosts: Mapping[int, Sequence[float]]
    """By machine id: each round's ratio of the sides. Only hosts with two rounds at least."""
    lacks: str
    """What rounds or windows lacked, for people."""

    @classmethod
    def of(cls, metric: str, share: float, better: int, hosts: Sequence[HostRounds]) -> _Seen:
        rounds = [each for host in hosts for each in host.rounds]
        values = [side[metric] for each in rounds for side in (each.baseline, each.candidate) if metric in side]
        # Nothing at all has no logarithm. Half of the least that was seen understates the difference.
        least = min((value for value in values if value > -math.inf), default=math.nan) - math.log(2)
        ratios: dict[int, list[float]] = {}
        lacks = 0
        for host in hosts:
            for each in host.rounds:
                sides = [side.get(metric, math.nan) for side in (each.baseline, each.candidate)]
                if better > 0:
                    sides = [least if side == -math.inf else side for side in sides]
                ratio = (sides[1] - sides[0]) * (-1 if better > 0 else 1)
                if math.isfinite(ratio):
                    ratios.setdefault(host.machine_id, []).append(ratio)
                else:
                    lacks += 1
        enough = {machine: found for machine, found in ratios.items() if len(found) > 1}
        return cls(metric, share, better > 0, enough, f"no value in {lacks} of {len(rounds)} rounds" if lacks else "")

    @property
    def gate(self) -> float:
        return -math.log1p(-self.share) if self.more_is_better else math.log1p(self.share)

    def shown(self, ratio: float) -> float:
        """A logarithm as a share of the baseline."""
        return -math.expm1(-ratio) if self.more_is_better else math.expm1(ratio)

    def estimate(self, hosts: Mapping[int, Sequence[float]]) -> _Estimate | None:
        """Over all of these hosts, each of which counts alike (Welch and Satterthwaite). None: of no host."""
        if not hosts:
            return None
        errors = [
            (max(statistics.stdev(found), STEADIEST) ** 2 / len(found), len(found) - 1) for found in hosts.values()
        ]
        whole = sum(error for error, _ in errors)
        df = whole**2 / sum(error**2 / df for error, df in errors)
        return _Estimate(statistics.mean(map(statistics.mean, hosts.values())), math.sqrt(whole) / len(hosts), df)


def _judge(
    seen: _Seen,
    whole: _Estimate | None,
    first: _Estimate | None,
    worse: float,
    better: float,
    suspected: float,
    unfair: str,
) -> Judged:
    """The finding of a metric whose p-values, corrected for the others, are known."""
    if whole is None or first is None:
        finding = Finding.HARDWARE if unfair else Finding.INCONCLUSIVE
        why = unfair or seen.lacks or "fewer than 2 rounds: nothing says how far they differ"
        return Judged(seen.metric, seen.share, finding, 0, 0, 0, 1, 0, why=why)
    means = {machine: statistics.mean(found) for machine, found in seen.hosts.items()}
    several = len(means) > 1
    # A slowdown that is surely smaller than the gate is none that was to be found.
    may_reach = 1 - whole.p(seen.gate) >= REGRESSION_P
    confirm = not several and may_reach and suspected < SUSPECTED_P and first.mean >= SUSPECTED_SHARE * seen.gate
    high = whole.mean + whole.reach(0.975)
    if (
        several
        and may_reach
        and worse < REGRESSION_P
        and whole.mean >= REGRESSION_SHARE * seen.gate
        and min(means.values()) >= CONFIRMED_SHARE * seen.gate
    ):
        finding = Finding.REGRESSION
    elif better < REGRESSION_P and whole.mean <= -REGRESSION_SHARE * seen.gate:
        finding = Finding.IMPROVEMENT
    elif high < seen.gate and not confirm:
        finding = Finding.NOISE
    else:
        finding = Finding.INCONCLUSIVE
    rounds = max(map(len, seen.hosts.values()))
    one = _Estimate(0, whole.error * math.sqrt(len(means)), rounds - 1)
    return Judged(
        metric=seen.metric,
        gate=seen.share,
        finding=finding,
        slowdown=seen.shown(whole.mean),
        low=seen.shown(whole.mean - whole.reach(0.975)),
        high=seen.shown(high),
        p=worse,
        resolves=seen.shown(_resolves(one, rounds, seen.gate)),
        confirm=confirm,
        why=seen.lacks,
        rounds=sum(map(len, seen.hosts.values())),
        settles_rounds=_settles(one, rounds, seen.gate) if finding is Finding.INCONCLUSIVE else 0,
        settles_hosts=2 if finding is Finding.INCONCLUSIVE else 0,
        hosts={machine: seen.shown(mean) for machine, mean in means.items()},
    )


def _resolves(one: _Estimate, rounds: int, gate: float) -> float:
    """The smallest difference that so many rounds on each of two hosts find in 8 of 10 cases, as a logarithm.

    :param one: What the rounds that were measured say of one host.
    """
    alone = _Estimate(0, one.error * math.sqrt((one.df + 1) / rounds), rounds - 1)
    both = _Estimate(0, alone.error / math.sqrt(2), 2 * rounds - 2)
    suspected = max(alone.reach(1 - SUSPECTED_P), SUSPECTED_SHARE * gate) + alone.reach(0.85)
    return max(suspected, max(both.reach(1 - REGRESSION_P), REGRESSION_SHARE * gate) + both.reach(0.85))


def _settles(one: _Estimate, rounds: int, gate: float) -> int:
    """How many rounds a host would find a slowdown of the gate, and say *noise* where there is none."""
    for more in range(rounds + 1, MOST_ROUNDS + 1):
        alone = _Estimate(0, one.error * math.sqrt((one.df + 1) / more), more - 1)
        if _resolves(one, more, gate) <= gate and alone.reach(0.975) + alone.reach(0.8) <= gate:
            return more
    return 0


def _holm(values: Sequence[float | None]) -> list[float]:
    """P-values corrected for being several; 1 for None, which tests nothing."""
    tested = sorted((value, at) for at, value in enumerate(values) if value is not None)
    corrected, least = [1.0] * len(values), 0.0
    for rank, (value, at) in enumerate(tested):
        least = max(least, min(1.0, value * (len(tested) - rank)))
        corrected[at] = least
    return corrected


def _medians(windows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for window in windows:
        for metric, value in window.items():
            if value >= 0 and math.isfinite(value):
                values.setdefault(metric, []).append(math.log(value) if value else -math.inf)
    return {metric: statistics.median(found) for metric, found in values.items()}
