"""What follows from failed attempts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.supervisor.rental.self_check import DARK_FROM_HERE

_STOPS = frozenset({FailureClass.WORKLOAD_FATAL, FailureClass.OWN_FAULT})
"""Every other host would fail the same."""


class NextStep(StrEnum):
    """Where a failed attempt leads to."""

    NEXT_OFFER = "next offer"
    STOP = "stop"


def after_failure(attempts: Sequence[Attempt], limit: int) -> NextStep:
    """Whether to try another offer.

    A workload's own fault stops at once, and so does ours. What one attempt leaves open is tried elsewhere, and settled
    by the same on another machine: a server's end that nobody can explain is the workload's then, whatever its cause,
    and silence of both a machine and the market's proxy is ours.

    :param attempts: All attempts of this workload in this run; the last one failed.
    """
    newest = attempts[-1]
    verdict = newest.verdict
    if verdict is None or len(attempts) >= limit:
        return NextStep.STOP
    unexplained = verdict.failure_class is FailureClass.UNKNOWN and newest.failed_in is State.WARMING
    if unexplained or verdict.reason == DARK_FROM_HERE:
        same = {a.offer.machine_id for a in attempts if a.verdict and a.verdict.reason == verdict.reason}
        return NextStep.STOP if len(same) > 1 else NextStep.NEXT_OFFER
    return NextStep.STOP if verdict.failure_class in _STOPS else NextStep.NEXT_OFFER
