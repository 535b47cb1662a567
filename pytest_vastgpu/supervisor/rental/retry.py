"""Decides after a failed attempt whether to try another offer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.supervisor.rental.self_check import DARK_FROM_HERE

_STOPS = frozenset({FailureClass.WORKLOAD_FATAL, FailureClass.OWN_FAULT})
"""Classes that every other host would fail with, too."""


class NextStep(StrEnum):
    """What to do after a failed attempt."""

    NEXT_OFFER = "next offer"
    STOP = "stop"


def after_failure(attempts: Sequence[Attempt], limit: int) -> NextStep:
    """Whether to try another offer.

    A fault of the workload stops at once, and so does our own. Two failures leave the fault open: the server ends for
    an unknown reason, and neither the machine nor the market's SSH proxy answers. Each is tried on another machine. If
    it happens there again, the first is the workload's fault and the second is our network's.

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
