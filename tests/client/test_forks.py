"""Children that are forked off while their parent has a line, and the end of the supervisor."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client import rpc_client
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.client.rpc_client import RpcClient
from pytest_vastgpu.errors import SupervisorGone
from pytest_vastgpu.supervisor.rpc_server import RpcServer
from tests.client.conftest import SERVER
from tests.client.conftest import WITHIN_S
from tests.client.conftest import Connect
from tests.client.conftest import Host
from tests.client.conftest import in_thread
from tests.client.conftest import leases
from tests.support.looks import PATIENCE_S
from tests.support.looks import forked
from tests.support.looks import until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.mark.parametrize("role", ["process", "control"])
def test_a_forked_child_gets_its_own_answers(connect: Connect, host: Host, role: str) -> None:
    line = connect(role)
    calls = leases(line)
    parent = calls.logs("who")
    forked(lambda: calls.logs("who").split()[0] != parent.split()[0] and calls.cost("2") == 2.0)
    assert host.left.get(timeout=WITHIN_S)[1] is False, "its end is not that of the run"
    assert calls.logs("who") == parent, "the parent's connection is what it was"


def test_many_threads_of_a_forked_child_begin_at_once(connect: Connect) -> None:
    """It is one process: whoever rents by one of its lines loses it when that line ends."""
    calls = leases(connect())
    barrier = threading.Barrier(20, lambda: sys.setswitchinterval(1e-6))  # not before: to start them takes long then

    def ask() -> str:
        barrier.wait(PATIENCE_S)
        return calls.logs("who").split()[0]

    def one_name() -> bool:
        with ThreadPoolExecutor(20) as pool:
            names = {each.result(PATIENCE_S) for each in [pool.submit(ask) for _ in range(20)]}
        return len(names) == 1 and names.pop().startswith(f"{os.getpid()}-")

    for _ in range(5):
        forked(one_name)


def test_a_forked_child_that_closes_the_line_closes_its_own(connect: Connect, host: Host) -> None:
    line = connect("control")
    parent = leases(line).logs("who")

    def closes() -> bool:
        line.close()
        with pytest.raises(SupervisorGone):
            leases(line).cost("1")
        return True

    forked(closes)
    assert leases(line).logs("who") == parent
    assert host.left.empty()


def test_a_child_that_is_forked_during_a_call_of_another_thread_breaks_nothing(connect: Connect, host: Host) -> None:
    line = connect()
    waits = in_thread(lambda: leases(line).spent("1"))
    assert host.waiting.acquire(timeout=WITHIN_S)
    forked(lambda: leases(line).cost("2") == 2.0)
    host.go_on.set()
    assert waits() == 1.0


def test_a_forked_child_shows_no_progress_and_waits_for_no_events(connect: Connect) -> None:
    """Whatever does that may be locked by a thread that the child does not have."""
    parent = os.getpid()

    def only_there(_: int = 0) -> None:
        assert os.getpid() == parent

    line = connect("control", only_there)
    line.await_events = only_there
    assert leases(line).cost("1") == 1.0
    forked(lambda: leases(line).cost("2") == 2.0)


def test_a_forked_child_keeps_no_connection_of_its_parent_open(connect: Connect, host: Host) -> None:
    """The parent dies, and the child lives on."""
    (goes_on, ends), (heard, says) = os.pipe(), os.pipe()
    parent = os.fork()
    if not parent:
        try:
            os.close(ends)
            line = connect()
            leases(line).cost("1")
            if os.fork():
                signal.pause()
            os.write(says, b"x")
            os.read(goes_on, 1)
        finally:
            os._exit(0)
    assert os.read(heard, 1) == b"x"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    name, was_control = host.left.get(timeout=WITHIN_S)
    assert name.startswith(f"{parent}-")
    assert not was_control
    for each in (goes_on, ends, heard, says):
        os.close(each)


def test_a_child_that_is_forked_just_when_a_connection_begins_does_not_keep_it(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread forks it."""
    begin = rpc_client._connect

    def begin_and_fork(sock: socket.socket, path: str) -> None:
        begin(sock, path)
        forked(lambda: sock.fileno() == -1)

    line = connect()
    monkeypatch.setattr(rpc_client, "_connect", begin_and_fork)
    line.hang_up(line.connect("calls"))


def test_a_process_that_is_killed_is_noticed(connect: Connect, host: Host) -> None:
    line = connect()
    pid = os.fork()
    if not pid:
        try:
            leases(line).acquire("t", SERVER, True)
        finally:
            os._exit(1)
    assert host.waiting.acquire(timeout=WITHIN_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert host.noticed.acquire(timeout=WITHIN_S)
    name, was_control = host.left.get(timeout=WITHIN_S)
    assert name.startswith(f"{pid}-")
    assert not was_control


def supervisor(listener: Listener, host: Host) -> int:
    """A process that answers until it is killed."""
    pid = os.fork()
    if not pid:
        try:
            # The parent's own was closed with the fork.
            again = socket.socket(socket.AF_UNIX)
            again.bind(listener.address.path)
            again.listen(10)
            RpcServer(again, listener.address.secret, host)
            threading.Event().wait()
        finally:
            os._exit(1)
    return pid


@pytest.fixture
def process(host: Host, listener: Listener, tmp_path: Path) -> Any:
    listener.close()
    listener.address = RpcAddress(f"\0vastgpu-test-{os.getpid()}-{tmp_path.name}", "secret")
    pid = supervisor(listener, host)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def connected(address: RpcAddress) -> RpcClient:
    for _ in range(1000):
        try:
            return RpcClient(address, "process")
        except SupervisorGone:
            threading.Event().wait(0.01)
    raise AssertionError("it never listened")


def test_a_supervisor_that_dies_is_told_at_once(process: int, listener: Listener) -> None:
    line = connected(listener.address)
    line.told_of_its_end(lambda: " (killed by SIGKILL)")
    assert leases(line).cost("1") == 1.0
    until(lambda: line.supervisor, bool)  # its introduction comes on a connection of its own
    waits = in_thread(lambda: leases(line).spent("1"))
    os.kill(process, signal.SIGKILL)
    story = (
        r"^the supervisor \(process \d+\), which owns .*, is gone \(killed by SIGKILL\); .*/where/its/log/is says more$"
    )
    with pytest.raises(SupervisorGone, match=story):
        waits()
    for _ in range(2):
        with pytest.raises(SupervisorGone, match=story):
            leases(line).cost("1")
    line.close()


@pytest.mark.parametrize("known", [True, False])
def test_a_forked_child_hears_of_it_too(process: int, listener: Listener, known: bool) -> None:
    line = connected(listener.address)
    if known:
        until(lambda: line.supervisor, bool)
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)

    def is_told() -> bool:
        with pytest.raises(SupervisorGone, match="is gone" if known else "the run ended before"):
            leases(line).cost("1")
        return True

    forked(is_told)
    line.close()


def test_where_nobody_listens_any_more_that_is_told(listener: Listener) -> None:
    listener.remove()
    with pytest.raises(SupervisorGone, match=r"^the run ended before anything was rented$"):
        RpcClient(listener.address, "process")


def test_a_supervisor_that_ends_before_it_answers_is_told(listener: Listener) -> None:
    line = RpcClient(listener.address, "process")
    waits = in_thread(lambda: leases(line).cost("1"))
    listener.remove()  # hangs up on whoever was not accepted
    with pytest.raises(SupervisorGone, match=r"^the run ended before anything was rented$"):
        waits()
    line.close()
