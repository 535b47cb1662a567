"""The line to the supervisor, with a server at its other end: what travels on it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pytest_vastgpu import errors
from pytest_vastgpu.client.calls import SLOW
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.calls import InstanceCalls
from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.rpc_client import RpcClient
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import SupervisorGone
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.rpc_server import RpcServer
from tests.client.conftest import SERVER
from tests.client.conftest import WITHIN_S
from tests.client.conftest import Connect
from tests.client.conftest import Host
from tests.client.conftest import control
from tests.client.conftest import in_thread
from tests.client.conftest import leases
from tests.support.factories import make_offer


def test_values_arrive_as_they_were_sent(connect: Connect) -> None:
    calls = leases(connect())
    lease = calls.acquire("a::test", SERVER, False)
    assert (lease.label, lease.offer, lease.headers) == ("a::test", make_offer(gpu_name="RTX 4090"), {"A": "b"})
    ran = ProbeResult("l", ProbeFailure.NONE, 0, "echo \udcff ü", "", 2.0)
    assert calls.run("l", "echo \udcff ü", 2, "") == ran
    assert calls.cost("inf") == float("inf")
    summary = control(connect("control")).close(0.0).summary
    assert summary is not None
    assert [each.what for each in summary.problems] == ["instance one"]


def test_a_supervisor_that_does_not_answer_is_given_up(host: Host, server: RpcServer, listener: Listener) -> None:
    line = RpcClient(listener.address, "control", answers_s=0.2)
    try:
        with pytest.raises(SupervisorGone, match=r"has not answered for 0\.2 s: is it stopped\?"):
            control(line).spent("1")
        host.go_on.set()
        assert control(line).logs("x") == "x" * 100, "a late answer is no answer to another call"
    finally:
        line.close()


def test_a_call_that_takes_its_time_is_waited_for(host: Host, server: RpcServer, listener: Listener) -> None:
    line = RpcClient(listener.address, "process", answers_s=0.0)
    try:
        waiting = in_thread(lambda: leases(line).acquire("a::test", SERVER, True))
        assert host.waiting.acquire(timeout=WITHIN_S)
        line.close()
        with pytest.raises(SupervisorGone):
            waiting()
    finally:
        line.close()


def test_each_call_that_takes_its_time_is_a_call() -> None:
    declared = {name for protocol in (RunControl, InstanceCalls) for name in dir(protocol)}
    assert SLOW - declared == set()
    # What waits for an instance, for a command on one or a way to it, or for whether one is lost.
    assert {"acquire", "acquire_several", "run", "address", "logs", "fate"} <= SLOW


VERDICT = Verdict(FailureClass.INFRA_FATAL, "why", "line", "remedy")
FIELDS: dict[str, tuple[Any, ...]] = {
    "ProvisioningFailed": ((Attempt(1, "l", make_offer(), 5, VERDICT, seconds={"created": 1.0}),),),
}
MORE: dict[str, dict[str, Any]] = {
    "MarketError": {"status": 503, "code": "busy"},
    "RateLimited": {"retry_after_s": 2.5, "code": "slow"},
    "SearchQuotaExceeded": {"retry_after_s": None},
    "OfferRefused": {"words": "no", "status": 400},
    "CreateUnsettled": {"label": "vastgpu-1", "instance_id": 77, "status": 500},
}
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, VastGpuError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_arrives_as_itself(connect: Connect, host: Host, kind: type[VastGpuError]) -> None:
    more = next((MORE[each.__name__] for each in kind.__mro__ if each.__name__ in MORE), {})
    text = "a line; what to do\nand another with ü"
    sent = host.errors["l"] = kind(text, *FIELDS.get(kind.__name__, ()), **more)
    with pytest.raises(VastGpuError) as caught:
        leases(connect()).failed("l")
    assert type(caught.value) is kind
    assert str(caught.value) == text
    assert vars(caught.value) == vars(sent)


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (BudgetSpent("the budget is spent"), BudgetSpent, "^the budget is spent$"),
        (Cancelled(), Cancelled, "^$"),
        (KeyError("x"), VastGpuError, r"^KeyError: 'x' \(a defect of pytest-vastgpu: please report it\)$"),
        (RecursionError("deep"), VastGpuError, r"^RecursionError: deep \(a defect"),
    ],
)
def test_what_else_is_raised_there_is_raised_as_what_it_means(
    connect: Connect, host: Host, error: Exception, expected: type[Exception], text: str
) -> None:
    host.errors["l"] = error
    line = connect()
    with pytest.raises(expected, match=text):
        leases(line).failed("l")
    assert leases(line).cost("1.5") == 1.5, "and the connection goes on"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("explode", [], "KeyError: 'explode'"),
        ("__init__", [], "KeyError: '__init__'"),
        ("crashed", ["test", True], "KeyError: 'crashed'"),  # for the process that started it
        ("close", [], "KeyError: 'close'"),
        ("cost", [], "cost takes 1 arguments, not 0"),
        ("cost", ["1", "2"], "cost takes 1 arguments, not 2"),
        ("cost", [1], "1 is not str"),
        ("acquire", ["t", SERVER, "yes"], "'yes' is not bool"),
        ("acquire", ["t", Verdict(FailureClass.READY, ""), True], "is not Workload"),
        ("acquire", ["t", Workload("a", args=("a", 1)), True], "Workload.args: 1 is not str"),  # type: ignore[arg-type]
    ],
)
def test_what_may_not_be_asked_is_an_error_and_not_the_end(
    connect: Connect, name: str, arguments: list[Any], said: str
) -> None:
    line = connect()
    line.ask_later(name, *arguments)
    with pytest.raises(VastGpuError, match=said):
        leases(line).cost("1")
    assert leases(line).cost("2") == 2.0


@pytest.mark.parametrize("request_", [5, [], {}, {"call": "cost"}, {"call": ["cost"], "arguments": 5}, None])
def test_what_is_no_request_is_an_error_and_not_the_end(connect: Connect, request_: object) -> None:
    sock = connect().connect("calls")
    sock.settimeout(WITHIN_S)
    messages.send(sock, request_)
    assert messages.receive(sock)["error"]["error"] == "VastGpuError"
    messages.send(sock, {"call": "cost", "arguments": ["3"]})
    assert messages.receive(sock)["result"] == 3.0


def test_an_answer_that_is_not_what_was_declared_is_told(connect: Connect) -> None:
    with pytest.raises(ValueError, match="'no number' is not float"):
        leases(connect()).cost("no number")


@pytest.mark.parametrize("largest_answer", [1000])
@pytest.mark.parametrize("role", ["process", "control"])
def test_an_answer_that_is_too_large_is_an_error_and_not_the_end(connect: Connect, role: str) -> None:
    line = connect(role)
    with pytest.raises(VastGpuError, match=r"the answer is too large: a message of \d+ bytes; 1000 are the most"):
        leases(line).logs("x" * 20)
    assert leases(line).cost("2") == 2.0


def test_a_call_without_waiting_arrives_and_the_next_gets_its_own_answer(connect: Connect, host: Host) -> None:
    line = connect()
    found = Collected({"t": Expected(SERVER)})
    line.ask_later("collected", found)
    assert host.collected.get(timeout=WITHIN_S) == found
    assert leases(line).cost("4") == 4.0


def test_an_error_of_a_call_without_waiting_is_raised_by_the_next(connect: Connect, host: Host) -> None:
    host.errors["bad"] = ConfigurationError("a marker is wrong")
    line = connect()
    line.ask_later("collected", Collected(problems=["bad"]))
    with pytest.raises(ConfigurationError, match=r"^a marker is wrong$"):
        leases(line).cost("4")
    assert leases(line).cost("5") == 5.0
