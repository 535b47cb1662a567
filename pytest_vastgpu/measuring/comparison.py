"""What two sides differ in, and how sure that is. Pure: values of rounds in, one of five verdicts out."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Finding(StrEnum):
    """What a comparison has found for a metric."""

    REGRESSION = "regression"
    """The candidate is worse, and a second host says so, too. The only one that turns a test red."""
    IMPROVEMENT = "improvement"
    NOISE = "noise"
    """The interval excludes the gate: if there is a difference, it is smaller."""
    INCONCLUSIVE = "inconclusive"
    """The interval holds both 0 and the gate: more rounds, or a second host, would tell."""
    HARDWARE = "hardware"
    """The host was no fair place: its check failed, or it throttled."""


@dataclass(frozen=True)
class Round:
    """One round on one host: both sides were started afresh, and measured in A B B A blocks.

    A round is what counts as one observation: windows of the same start are not independent.
    """

    baseline: Mapping[str, float]
    """Each metric's value, the mean of the logarithms over its windows, by the metric's name."""
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
    """One gated metric."""

    metric: str
    gate: float
    """The slowdown that counts: 0.05 is 5 %."""
    finding: Finding
    slowdown: float
    """Estimated; below 0: the candidate is better."""
    low: float
    high: float
    """The 95 % interval of the slowdown."""
    p: float
    """One-sided: how likely so much slowdown is where there is none (after Holm)."""
    resolves: float
    """The smallest slowdown that this many rounds would have found in 8 of 10 cases."""
    confirm: bool = False
    """Whether a second host is needed to say *regression*."""
    why: str = ""
