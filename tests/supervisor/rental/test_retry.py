from __future__ import annotations

import pytest

from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.supervisor.rental import retry
from pytest_vastgpu.supervisor.rental.self_check import DARK_FROM_HERE
from tests.support.factories import make_offer


def attempt(machine: int, failure_class: FailureClass, reason: str = "why") -> Attempt:
    return Attempt(1, "label", make_offer(machine_id=machine), 7, Verdict(failure_class, reason), State.WARMING)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([attempt(1, FailureClass.INFRA_FATAL)], retry.NextStep.NEXT_OFFER),
        ([attempt(1, FailureClass.INCOMPATIBLE)], retry.NextStep.NEXT_OFFER),
        ([attempt(1, FailureClass.WORKLOAD_FATAL)], retry.NextStep.STOP),
        ([attempt(1, FailureClass.OWN_FAULT)], retry.NextStep.STOP),
        ([attempt(1, FailureClass.WARMUP)], retry.NextStep.NEXT_OFFER),
        ([attempt(1, FailureClass.UNKNOWN, "server_exited")], retry.NextStep.NEXT_OFFER),
        (
            [attempt(1, FailureClass.UNKNOWN, "server_exited"), attempt(2, FailureClass.UNKNOWN, "server_exited")],
            retry.NextStep.STOP,
        ),
        ([attempt(1, FailureClass.OWN_FAULT, DARK_FROM_HERE)], retry.NextStep.NEXT_OFFER),
        (
            [attempt(1, FailureClass.OWN_FAULT, DARK_FROM_HERE), attempt(2, FailureClass.OWN_FAULT, DARK_FROM_HERE)],
            retry.NextStep.STOP,
        ),
        (
            [attempt(1, FailureClass.OWN_FAULT, DARK_FROM_HERE), attempt(2, FailureClass.INFRA_FATAL)],
            retry.NextStep.NEXT_OFFER,
        ),
        ([attempt(n, FailureClass.INFRA_FATAL) for n in range(5)], retry.NextStep.STOP),
    ],
)
def test_where_a_failure_leads_to(attempts: list[Attempt], expected: retry.NextStep) -> None:
    assert retry.after_failure(attempts, limit=5) is expected


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
    assert ProvisioningFailed("why", attempts).machines_failed is expected
