from __future__ import annotations

import pytest

from pytest_vastgpu.lifecycle import afterwards
from pytest_vastgpu.lifecycle.ourselves import DARK_FROM_HERE
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from tests.factories import make_offer


def attempt(machine: int, failure_class: FailureClass, reason: str = "why") -> Attempt:
    return Attempt(1, "label", make_offer(machine_id=machine), 7, Verdict(failure_class, reason), State.WARMING)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([attempt(1, FailureClass.INFRA_FATAL)], afterwards.Next.NEXT_OFFER),
        ([attempt(1, FailureClass.INCOMPATIBLE)], afterwards.Next.NEXT_OFFER),
        ([attempt(1, FailureClass.WORKLOAD_FATAL)], afterwards.Next.STOP),
        ([attempt(1, FailureClass.OWN_FAULT)], afterwards.Next.STOP),
        ([attempt(1, FailureClass.WARMUP)], afterwards.Next.NEXT_OFFER),
        ([attempt(1, FailureClass.UNKNOWN, "server_exited")], afterwards.Next.NEXT_OFFER),
        (
            [attempt(1, FailureClass.UNKNOWN, "server_exited"), attempt(2, FailureClass.UNKNOWN, "server_exited")],
            afterwards.Next.STOP,
        ),
        ([attempt(1, FailureClass.OWN_FAULT, DARK_FROM_HERE)], afterwards.Next.NEXT_OFFER),
        (
            [attempt(1, FailureClass.OWN_FAULT, DARK_FROM_HERE), attempt(2, FailureClass.OWN_FAULT, DARK_FROM_HERE)],
            afterwards.Next.STOP,
        ),
        (
            [attempt(1, FailureClass.OWN_FAULT, DARK_FROM_HERE), attempt(2, FailureClass.INFRA_FATAL)],
            afterwards.Next.NEXT_OFFER,
        ),
        ([attempt(n, FailureClass.INFRA_FATAL) for n in range(5)], afterwards.Next.STOP),
    ],
)
def test_where_a_failure_leads_to(attempts: list[Attempt], expected: afterwards.Next) -> None:
    assert afterwards.after_failure(attempts, limit=5) is expected


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([FailureClass.INFRA_FATAL, FailureClass.INFRA_FATAL], True),
        ([FailureClass.INFRA_FATAL, FailureClass.WORKLOAD_FATAL], False),
        ([FailureClass.INFRA_FATAL, FailureClass.UNKNOWN], False),
        ([FailureClass.INCOMPATIBLE], False),
        ([FailureClass.OWN_FAULT], False),
        ([], False),
    ],
)
def test_only_where_every_machine_failed_by_itself_nothing_is_said_of_the_tests(
    classes: list[FailureClass], expected: bool
) -> None:
    attempts = [attempt(machine, failure_class) for machine, failure_class in enumerate(classes)]
    assert afterwards.machines_failed(attempts) is expected
