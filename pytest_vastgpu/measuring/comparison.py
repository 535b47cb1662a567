"""What two sides differ in, and whether that is a regression. Pure: values of windows in, one of five findings out.

``python -m tests.benchmarks.regressions`` shows how often these rules err, and what they find.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum

from pytest_vastgpu.measuring.ratios import Estimate
from pytest_vastgpu.measuring.ratios import Ratios
from pytest_vastgpu.measuring.ratios import holm
from pytest_vastgpu.measuring.ratios import medians

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
    """Rounds a host that would settle it in 8 of 10 cases; 0: it is settled, or more rounds are no way to settle it."""
    settles_hosts: int = 0
    """On so many further hosts at most; 0: it is settled."""
    hosts: Mapping[int, float] = field(default_factory=dict)
    """The slowdown that each fair host saw, by machine id."""


def round_of(baseline: Sequence[Mapping[str, float]], candidate: Sequence[Mapping[str, float]]) -> Round:
    """One round, of the metrics of each side's windows, by name. What is negative or no number is left out."""
    return Round(medians(baseline), medians(candidate))


def judge(hosts: Sequence[HostRounds], gates: Mapping[str, float], better: Mapping[str, int]) -> list[Judged]:
    """What each gated metric shows, in the order of the gates.

    :param hosts: In the order in which they were measured.
    :param gates: The slowdown that counts, above 0 and below 1, by the metric's name.
    :param better: 1: more of the metric is better; -1 (also where it is not named): less is.
    """
    seen = {metric: _ratios(hosts, metric, better.get(metric, -1) > 0) for metric in gates}
    whole = {metric: Estimate.of(ratios.hosts.values()) for metric, ratios in seen.items() if ratios.hosts}
    worse = dict(zip(whole, holm([estimate.above(0) for estimate in whole.values()]), strict=True))
    improved = dict(zip(whole, holm([1 - estimate.above(0) for estimate in whole.values()]), strict=True))
    return [
        _judge(metric, gate, seen[metric], whole[metric], worse[metric], improved[metric])
        if metric in whole
        else _without_numbers(metric, gate, hosts, seen[metric].lacks)
        for metric, gate in gates.items()
    ]


def needs_second_host(judged: Sequence[Judged]) -> bool:
    """Whether a metric is suspected, so that only a second host can tell."""
    return any(each.confirm for each in judged)


def would_settle(judged: Sequence[Judged]) -> tuple[int, int]:
    """What would settle all that is open: rounds a host, and further hosts. 0 rounds: more rounds do not settle it."""
    open_ = [each for each in judged if each.settles_hosts]
    rounds = (
        0 if any(not each.settles_rounds for each in open_) else max((each.settles_rounds for each in open_), default=0)
    )
    return rounds, max((each.settles_hosts for each in open_), default=0)


def _ratios(hosts: Sequence[HostRounds], metric: str, more_is_better: bool) -> Ratios:
    rounds: dict[int, list[tuple[float, float]]] = {}
    for host in hosts:
        if not host.unfair:
            sides = [
                (each.baseline.get(metric, math.nan), each.candidate.get(metric, math.nan)) for each in host.rounds
            ]
            rounds.setdefault(host.machine_id, []).extend(sides)
    return Ratios.of(rounds, more_is_better)


def _without_numbers(metric: str, gate: float, hosts: Sequence[HostRounds], lacks: str) -> Judged:
    rounds = max((len(host.rounds) for host in hosts), default=0)
    if hosts and all(host.unfair for host in hosts):
        why = "; ".join(f"machine {host.machine_id}: {host.unfair}" for host in hosts)
        finding = Finding.HARDWARE
    else:
        why = lacks or "fewer than 2 rounds on a fair host: nothing tells how far rounds differ"
        finding = Finding.INCONCLUSIVE
    return Judged(metric, gate, finding, 0, 0, 0, 1, 0, why=why, settles_rounds=max(rounds, 2), settles_hosts=2)


def _judge(metric: str, share: float, ratios: Ratios, whole: Estimate, worse: float, improved: float) -> Judged:
    """The finding of a metric whose p-values are corrected for the others."""
    gate = ratios.gate(share)
    alone = {machine: Estimate.of([found]) for machine, found in ratios.hosts.items()}
    several = len(alone) > 1
    first = next(iter(alone.values()))
    confirm = (
        not several
        and first.above(0) < SUSPECTED_P
        and first.mean >= SUSPECTED_SHARE * gate
        and _may_reach(first, gate)
    )
    high = whole.mean + whole.reach(0.975)
    if (
        several
        and worse < REGRESSION_P
        and whole.mean >= REGRESSION_SHARE * gate
        and all(each.mean >= CONFIRMED_SHARE * gate for each in alone.values())
        and _may_reach(whole, gate)
    ):
        finding = Finding.REGRESSION
    elif improved < REGRESSION_P and whole.mean <= -REGRESSION_SHARE * gate:
        finding = Finding.IMPROVEMENT
    elif high < gate and not confirm and not any(_sure(each, gate) for each in alone.values()):
        finding = Finding.NOISE
    else:
        finding = Finding.INCONCLUSIVE
    rounds = max(map(len, ratios.hosts.values()))
    spread = whole.error * math.sqrt(len(alone) * rounds)
    settles = (0, 0)
    if finding is Finding.INCONCLUSIVE:
        settles = (rounds, 1) if confirm else (_rounds(spread, rounds, gate), 2)
    return Judged(
        metric=metric,
        gate=share,
        finding=finding,
        slowdown=ratios.share(whole.mean),
        low=ratios.share(whole.mean - whole.reach(0.975)),
        high=ratios.share(high),
        p=worse,
        resolves=ratios.share(_resolves(spread, rounds, gate)),
        confirm=confirm,
        why=ratios.lacks,
        rounds=sum(map(len, ratios.hosts.values())),
        settles_rounds=settles[0],
        settles_hosts=settles[1],
        hosts={machine: ratios.share(each.mean) for machine, each in alone.items()},
    )


def _may_reach(estimate: Estimate, gate: float) -> bool:
    """Whether the slowdown can be the gate: one that is surely smaller is not what was to be found."""
    return 1 - estimate.above(gate) >= REGRESSION_P


def _sure(host: Estimate, gate: float) -> bool:
    """Whether a host alone shows what would be a regression if another showed it, too."""
    return host.above(0) < REGRESSION_P and host.mean >= REGRESSION_SHARE * gate and _may_reach(host, gate)


def _resolves(spread: float, rounds: int, gate: float) -> float:
    """The smallest difference that so many rounds on each of two hosts find in 8 of 10 cases, as a logarithm.

    :param spread: Standard deviation of a round.
    """
    alone = Estimate(0, spread / math.sqrt(rounds), rounds - 1)
    both = Estimate(0, spread / math.sqrt(2 * rounds), 2 * rounds - 2)
    suspected = max(alone.reach(1 - SUSPECTED_P), SUSPECTED_SHARE * gate) + alone.reach(0.85)
    return max(suspected, max(both.reach(1 - REGRESSION_P), REGRESSION_SHARE * gate) + both.reach(0.85))


def _rounds(spread: float, rounds: int, gate: float) -> int:
    """So many rounds a host would find a slowdown of the gate, and say *noise* where there is none; 0: too many."""
    for more in range(rounds + 1, MOST_ROUNDS + 1):
        alone = Estimate(0, spread / math.sqrt(more), more - 1)
        if _resolves(spread, more, gate) <= gate and alone.reach(0.975) + alone.reach(0.8) <= gate:
            return more
    return 0
