from __future__ import annotations

import pytest

from pytest_vastgpu.lifecycle.ourselves import SelfLook
from pytest_vastgpu.lifecycle.ourselves import fair
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict

DARK = Verdict(FailureClass.INFRA_FATAL, "ssh_black_hole", "all ports timed out")
LOST = Verdict(FailureClass.RUNTIME_LOST, "instance_lost", "no answer")
WRONG_FLAG = Verdict(FailureClass.WORKLOAD_FATAL, "bad_cli_argument", "--foo")


@pytest.mark.parametrize("verdict", [DARK, LOST], ids=lambda verdict: verdict.reason)
@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        pytest.param(SelfLook(market_answers=False, said="timed out"), "market_silent_too", id="network or API down"),
        pytest.param(SelfLook(key_works=False, said="401"), "api_key_refused", id="key bad"),
        pytest.param(SelfLook(credit_usd=0.0), "credit_used_up", id="no credit"),
        pytest.param(SelfLook(credit_usd=-0.4), "credit_used_up", id="in debt"),
    ],
)
def test_what_our_own_side_explains_is_recorded_against_nobody(verdict: Verdict, seen: SelfLook, reason: str) -> None:
    found = fair(verdict, seen)
    assert (found.failure_class, found.reason) == (FailureClass.OWN_FAULT, reason)
    assert found.remedy


@pytest.mark.parametrize("verdict", [DARK, LOST, WRONG_FLAG], ids=lambda verdict: verdict.reason)
@pytest.mark.parametrize("seen", [SelfLook(credit_usd=3.0), SelfLook(said="rate limited")], ids=["well", "cannot say"])
def test_where_our_side_is_well_the_verdict_stands(verdict: Verdict, seen: SelfLook) -> None:
    assert fair(verdict, seen) is verdict


def test_a_fault_of_the_workload_is_not_excused_by_our_network() -> None:
    assert fair(WRONG_FLAG, SelfLook(market_answers=False)) is WRONG_FLAG
