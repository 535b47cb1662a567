from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.connector import SshConnector
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.rental import self_check
from pytest_vastgpu.supervisor.rental.self_check import SelfCheck
from pytest_vastgpu.supervisor.rental.self_check import attribute_fault
from pytest_vastgpu.supervisor.rental.self_check import proxy_answers
from tests.support.looks import refusing

DARK = Verdict(FailureClass.INFRA_FATAL, "ssh_black_hole", "all ports timed out")
LOST = Verdict(FailureClass.RUNTIME_LOST, "instance_lost", "no answer")
WRONG_FLAG = Verdict(FailureClass.WORKLOAD_FATAL, "bad_cli_argument", "--foo")

CONNECTOR = SshConnector(load_key({}, Path("/nonexistent")), connect_s=1.0, answer_s=0.3)


@pytest.mark.parametrize("verdict", [DARK, LOST], ids=lambda verdict: verdict.reason)
@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        pytest.param(SelfCheck(market_answers=False, said="timed out"), "market_silent_too", id="network or API down"),
        pytest.param(SelfCheck(key_works=False, said="401"), "api_key_refused", id="key bad"),
        pytest.param(SelfCheck(credit_usd=0.0), "credit_used_up", id="no credit"),
        pytest.param(SelfCheck(credit_usd=-0.4), "credit_used_up", id="in debt"),
        pytest.param(SelfCheck(destroyed_by_user=True), "destroyed_by_user", id="destroyed by hand"),
    ],
)
def test_what_our_own_side_explains_is_recorded_against_nobody(verdict: Verdict, seen: SelfCheck, reason: str) -> None:
    found = attribute_fault(verdict, seen)
    assert (found.failure_class, found.reason) == (FailureClass.OWN_FAULT, reason)
    assert found.remedy


@pytest.mark.parametrize("verdict", [DARK, LOST, WRONG_FLAG], ids=lambda verdict: verdict.reason)
@pytest.mark.parametrize(
    "seen",
    [SelfCheck(credit_usd=3.0, ssh_leaves=True), SelfCheck(said="rate limited", ssh_leaves=True)],
    ids=["well", "cannot say"],
)
def test_where_our_side_is_well_the_verdict_stands(verdict: Verdict, seen: SelfCheck) -> None:
    assert attribute_fault(verdict, seen) is verdict


def test_a_fault_of_the_workload_is_not_excused_by_our_network() -> None:
    assert attribute_fault(WRONG_FLAG, SelfCheck(market_answers=False)) is WRONG_FLAG


def test_silence_is_a_machines_only_where_ssh_is_known_to_leave_from_here() -> None:
    ours = attribute_fault(DARK, SelfCheck(credit_usd=3.0))
    assert (ours.failure_class, ours.reason) == (FailureClass.OWN_FAULT, self_check.DARK_FROM_HERE)
    assert DARK.evidence in ours.evidence
    assert attribute_fault(LOST, SelfCheck(credit_usd=3.0)) is LOST, "it had let us in before"


@contextlib.contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def dark() -> Iterator[int]:
    """A port that lets every connection wait: on Linux, one whose queue is full."""
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.mark.parametrize(("make_port", "expected"), [(listening, True), (refusing, True), (dark, False)])
def test_a_proxy_answers_also_by_refusing(
    make_port: Callable[[], contextlib.AbstractContextManager[int]], expected: bool
) -> None:
    with make_port() as port:
        assert proxy_answers(CONNECTOR, SshAddress("127.0.0.1", port - 1, "proxy")) is expected


def test_without_a_proxy_nothing_is_known() -> None:
    assert not proxy_answers(CONNECTOR, None)
    assert not proxy_answers(CONNECTOR, SshAddress("127.0.0.1", 65_535, "proxy"))
