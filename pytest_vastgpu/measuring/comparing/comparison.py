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

from pytest_vastgpu.measuring.comparing.ratios import Estimate
from pytest_vastgpu.measuring.comparing.ratios import Ratios
from pytest_vastgpu.measuring.comparing.ratios import holm
from pytest_vastgpu.measuring.comparing.ratios import medians
from pytest_vastgpu.measuring.figures import difference
from pytest_vastgpu.measuring.figures import percent

MOST_ROUNDS = 100
"""Where more rounds were needed, rounds are no way to settle it."""


@dataclass(frozen=True)
class Rules:
    """When a slowdown is suspected, and when it is a regression. Shares are of the gate, p-values one-sided."""

    suspected_p: float = 0.10
    """A first host raises a suspicion below it; not corrected for several metrics, as it costs no more than a host."""
    regression_p: float = 0.01
    """All hosts together confirm it below that."""
    share: float = 0.5
    """What the slowdown of each host is at least."""
    smaller_p: float = 0.01
    """A slowdown is neither where it is surely, with a p-value below that, smaller than the gate."""


RULES = Rules()


class Finding(StrEnum):
    """What a comparison has found for a metric."""

    REGRESSION = "regression"
    """The candidate is worse, and a second host says so, too. The only one that turns a test red."""
    IMPROVEMENT = "improvement"
    NOISE = "noise"
    """The interval excludes the gate: if the candidate is slower, it is by less."""
    INCONCLUSIVE = "inconclusive"
    """The interval contains the gate: more rounds, or a second host, would tell."""
    HARDWARE = "hardware"
    """The GPU check of the host failed, or it throttled."""


@dataclass(frozen=True)
class Round:
    """One round on one host: both sides were started afresh, and measured in turn.

    A round is what counts as one observation: windows of the same start are not independent.
    """

    baseline: Mapping[str, float]
    """Each metric's logarithm, the median over its windows, by the metric's name; -inf: the metric was 0.
    inf: it had no end."""
    candidate: Mapping[str, float]


@dataclass(frozen=True)
class HostRounds:
    """What was measured on one host."""

    machine_id: int
    rounds: Sequence[Round]
    hardware_problem: str = ""
    """Why what this host measures does not count, in a sentence; empty: it does."""
    name: str = ""
    """What is shown in place of its number, where that is none of a machine: a second instance on one."""

    hides: str = ""
    """Why a slowdown may not show there, in a sentence; empty: it does."""

    @property
    def place(self) -> str:
        """Where it was, in words: ``machine 42``."""
        return self.name or f"machine {self.machine_id}"


@dataclass(frozen=True, repr=False)
class Judged:
    """One gated metric. Where :attr:`rounds` is 0, nothing was computed: its numbers are NaN."""

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
    """The smallest slowdown that this many rounds a host, on two hosts, tell from none in 8 of 10 cases."""
    confirm: bool = False
    """Whether a second host is needed to say *regression*."""
    why: str = ""
    """What the finding rests on, in a sentence."""
    rounds: int = 0
    """How many rounds count, of all hosts that do."""
    settles_rounds: int = 0
    """Rounds a host that would settle it in 8 of 10 cases; 0: it is settled, or more rounds are no way to settle it."""
    settles_hosts: int = 0
    """On so many further hosts at most; 0: it is settled."""
    hosts: Mapping[int, float] = field(default_factory=dict)
    """The slowdown that each host saw, of those that count, by machine id."""
    places: Mapping[int, str] = field(default_factory=dict)
    """What is shown in place of these ids."""

    def __repr__(self) -> str:
        """``<throughput: regression, +6.2 % (+4.1 % to +8.4 %), gate +5.0 %, could be seen from +3.6 %; why>``."""
        seen = f"{difference(self.slowdown)} ({difference(self.low)} to {difference(self.high)})"
        could = f"could be seen from {difference(self.resolves)}"
        known = [seen, f"gate {difference(self.gate)}", could] if self.rounds else [f"gate {difference(self.gate)}"]
        why = f"; {self.why}" if self.why else ""
        return f"<{self.metric}: {', '.join([self.finding.value, *known])}{why}>"


def round_of(baseline: Sequence[Mapping[str, float]], candidate: Sequence[Mapping[str, float]]) -> Round:
    """One round, of the metrics of each side's windows, by name; inf: without end. What is negative or no number is
    left out.
    """
    return Round(medians(baseline), medians(candidate))


def judge(
    hosts: Sequence[HostRounds], gates: Mapping[str, float], better: Mapping[str, int], rules: Rules = RULES
) -> list[Judged]:
    """What each gated metric shows, in the order of the gates.

    :param hosts: In the order in which they were measured.
    :param gates: The slowdown that counts, above 0 and below 1, by the metric's name.
    :param better: 1: more of the metric is better; -1 (also where it is not named): less is.
    :param rules: Others than these are for simulations.
    """
    ratios = {metric: _ratios(hosts, metric, better.get(metric, -1) > 0) for metric in gates}
    places = {host.machine_id: host.place for host in hosts}
    hides = "; ".join(f"{host.place}: {host.hides}" for host in hosts if host.hides and not host.hardware_problem)
    tested = [
        _Tested(metric, gates[metric], each, places, rules, hides) for metric, each in ratios.items() if each.hosts
    ]
    worse = holm([each.whole.above(0) for each in tested])
    improved = holm([1 - each.whole.above(0) for each in tested])
    judged = {
        each.metric: each.judged(p, p_improved, len(tested))
        for each, p, p_improved in zip(tested, worse, improved, strict=True)
    }
    return [judged.get(each) or _not_tested(each, gates[each], hosts, ratios[each].lacks) for each in gates]


def needs_second_host(judged: Sequence[Judged]) -> bool:
    """Whether a metric is suspected, so that only a second host can tell."""
    return any(each.confirm for each in judged)


def would_settle(judged: Sequence[Judged]) -> tuple[int, int]:
    """What would settle all that is open: rounds a host, and further hosts. 0 rounds: more rounds do not settle it."""
    unsettled = [each for each in judged if each.settles_hosts]
    rounds = [each.settles_rounds for each in unsettled]
    return max(rounds, default=0) if all(rounds) else 0, max((each.settles_hosts for each in unsettled), default=0)


def _ratios(hosts: Sequence[HostRounds], metric: str, more_is_better: bool) -> Ratios:
    rounds: dict[int, list[tuple[float, float]]] = {}
    for host in hosts:
        if not host.hardware_problem:
            sides = (
                (each.baseline.get(metric, math.nan), each.candidate.get(metric, math.nan)) for each in host.rounds
            )
            rounds.setdefault(host.machine_id, []).extend(sides)
    return Ratios.of(rounds, more_is_better)


def _not_tested(metric: str, gate: float, hosts: Sequence[HostRounds], lacks: str) -> Judged:
    """The finding where no host that counts has two rounds with a value."""
    problems = [f"{host.place}: {host.hardware_problem}" for host in hosts if host.hardware_problem]
    hardware = len(problems) == len(hosts) > 0
    return Judged(
        metric,
        gate,
        Finding.HARDWARE if hardware else Finding.INCONCLUSIVE,
        *(math.nan, math.nan, math.nan, math.nan, math.nan),
        why="; ".join(
            [*problems, *([] if hardware else [lacks or "fewer than 2 rounds say nothing of how they differ"])]
        ),
        settles_rounds=max([2, *(len(host.rounds) for host in hosts)]),
        settles_hosts=2,
    )


class _Tested:
    """A metric with rounds enough to judge it by."""

    def __init__(
        self, metric: str, share: float, ratios: Ratios, places: Mapping[int, str], rules: Rules, hides: str
    ) -> None:
        self.metric = metric
        self._hides = hides
        self._places = {machine: places[machine] for machine in ratios.hosts}
        self.whole = Estimate.of(ratios.hosts.values())
        self._rules = rules
        self._share = share
        self._gate = ratios.gate(share)
        self._ratios = ratios
        self._hosts = {machine: Estimate.of([rounds]) for machine, rounds in ratios.hosts.items()}
        self._rounds = max(map(len, ratios.hosts.values()))
        self._spread = self.whole.error * math.sqrt(len(self._hosts) * self._rounds) * (1 + 0.25 / (self._rounds - 1))
        """Standard deviation of a round. Few rounds understate it by that factor."""

    def judged(self, worse: float, improved: float, metrics: int) -> Judged:
        """The finding.

        :param worse: P-value that it is worse, and
        :param improved: that it is better, both corrected for the other metrics, of which there are
        :param metrics: with this one.
        """
        low, high = self.whole.mean - self.whole.reach(0.975), self.whole.mean + self.whole.reach(0.975)
        share = self._ratios.share
        hosts = {machine: share(each.mean) for machine, each in self._hosts.items()}
        each = " and ".join(f"{_worse(seen)} on {self._places[machine]}" for machine, seen in hosts.items())
        could = resolves(self._spread, self._rounds, metrics)
        confirm = len(hosts) == 1 and self._is_suspected()
        settles, finding = (0, 0), Finding.INCONCLUSIVE
        if self._is_regression(worse):
            finding, why = Finding.REGRESSION, each
        elif improved < self._rules.regression_p and self.whole.mean <= -self._rules.share * self._gate:
            finding, why = Finding.IMPROVEMENT, each
        elif confirm:
            settles, why = (self._rounds, 1), f"suspected, a second host would tell: {each}"
        elif any(map(self._is_sure, self._hosts.values())):
            settles, why = (self._rounds, 1), f"the hosts disagree, only a further one can tell: {each}"
        elif high < self._gate and self._hides:
            why = self._hides
        elif high < self._gate:
            finding, why = Finding.NOISE, self._excludes(could, high)
        else:
            settles = (resolving_rounds(self._spread, self._rounds, self._gate, metrics), 2)
            why = f"where nothing differs, {percent(worse)} of all comparisons see as much" if low > 0 else ""
        return Judged(
            metric=self.metric,
            gate=self._share,
            finding=finding,
            slowdown=share(self.whole.mean),
            low=share(low),
            high=share(high),
            p=worse,
            resolves=share(could),
            confirm=confirm,
            why="; ".join(filter(None, [why, self._ratios.lacks])),
            rounds=sum(map(len, self._ratios.hosts.values())),
            settles_rounds=settles[0],
            settles_hosts=settles[1],
            hosts=hosts,
            places=self._places,
        )

    def _excludes(self, could: float, high: float) -> str:
        """What *noise* means where so few rounds could not have confirmed a slowdown of the gate."""
        if could <= self._gate:
            return ""
        return (
            f"a slowdown above {difference(self._ratios.share(high))} is ruled out, but so few rounds would miss one "
            "of the gate in more than 2 of 10 cases: have more of them"
        )

    def _is_suspected(self) -> bool:
        (host,) = self._hosts.values()
        return self._is_large(host) and self._can_be_gate(host) and host.above(0) < self._rules.suspected_p

    def _is_regression(self, worse: float) -> bool:
        everywhere = len(self._hosts) > 1 and all(map(self._is_large, self._hosts.values()))
        return everywhere and worse < self._rules.regression_p and self._can_be_gate(self.whole)

    def _is_sure(self, host: Estimate) -> bool:
        """Whether a host alone shows what would be a regression if each did."""
        return self._is_large(host) and self._can_be_gate(host) and host.above(0) < self._rules.regression_p

    def _is_large(self, host: Estimate) -> bool:
        return host.mean >= self._rules.share * self._gate

    def _can_be_gate(self, seen: Estimate) -> bool:
        """What is surely smaller than the gate is not what the gate is for."""
        return 1 - seen.above(self._gate) >= self._rules.smaller_p


def _worse(share: float) -> str:
    return f"{percent(abs(share))} {'worse' if share >= 0 else 'better'}"


def resolves(spread: float, rounds: int, metrics: int) -> float:
    """The smallest difference that so many rounds on each of two hosts find in 8 of 10 cases, as a logarithm.

    :param spread: Standard deviation of a round.
    :param metrics: How many are tested: the p-value of the first that is found has to be so much smaller.
    """
    alone = Estimate(0, spread / math.sqrt(rounds), rounds - 1)
    both = Estimate(0, spread / math.sqrt(2 * rounds), 1.5 * (rounds - 1))  # as Welch's come out on average
    # The steps rest on some of the same rounds: each succeeds in 9 of 10 cases, and all of them in 8.
    suspected = alone.reach(1 - RULES.suspected_p) + alone.reach(0.93)
    return max(suspected, both.reach(1 - RULES.regression_p / metrics) + both.reach(0.93))


def resolving_rounds(spread: float, rounds: int, gate: float, metrics: int) -> int:
    """More rounds, so many a host, that find a slowdown of the gate, and say *noise* where there is none; 0: too many.

    :param spread: As of :func:`resolves`, as is ``metrics``.
    :param rounds: Those that were too few.
    """
    for more in range(rounds + 1, MOST_ROUNDS + 1):
        alone = Estimate(0, spread / math.sqrt(more), more - 1)
        if max(resolves(spread, more, metrics), alone.reach(0.975) + alone.reach(0.8)) <= gate:
            return more
    return 0
