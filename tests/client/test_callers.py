"""Who calls on the line: threads, processes, and how each of them ends."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.rpc_client import RpcClient
from pytest_vastgpu.errors import SupervisorGone
from tests.client.conftest import SERVER
from tests.client.conftest import WITHIN_S
from tests.client.conftest import Connect
from tests.client.conftest import Host
from tests.client.conftest import in_thread
from tests.client.conftest import leases
from tests.support.looks import forked


def test_each_thread_has_a_connection_of_its_own(connect: Connect) -> None:
    line = connect()
    barrier = threading.Barrier(40)

    def ask() -> set[str]:
        barrier.wait(WITHIN_S)  # all at once
        return {leases(line).logs("who") for _ in range(20)}

    with ThreadPoolExecutor(40) as pool:
        said = [future.result(WITHIN_S) for future in [pool.submit(ask) for _ in range(40)]]
    assert all(len(each) == 1 for each in said), "each thread has one"
    connections = {one for each in said for one in each}
    assert len(connections) == 40
    assert len({each.split()[0] for each in connections}) == 1, "of one process"


def in_new_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_connection_of_a_thread_that_has_ended_goes_to_the_next(connect: Connect) -> None:
    """Each test may have a pool of threads of its own, and descriptors are few."""
    calls = leases(connect())
    said: list[str] = []
    for _ in range(50):
        in_new_thread(lambda: said.append(calls.logs("who")))
    assert len(said) == 50
    assert len(set(said)) == 1


def test_the_answer_to_a_call_of_a_thread_that_has_ended_is_no_answer_to_the_next_call(
    connect: Connect, host: Host
) -> None:
    line = connect()
    in_new_thread(lambda: line.ask_later("collected", Collected()))
    said: list[float] = []
    in_new_thread(lambda: said.append(leases(line).cost("2")))
    assert said == [2.0]
    assert host.collected.get(timeout=WITHIN_S) == Collected()


def test_who_the_supervisor_is_may_be_asked_by_all_threads_at_once(connect: Connect, host: Host) -> None:
    """It says so only once."""
    for _ in range(30):
        host.introduce.clear()
        line = connect()
        barrier = threading.Barrier(5)

        def ask(line: RpcClient = line, barrier: threading.Barrier = barrier) -> Supervisor:
            barrier.wait(WITHIN_S)
            while (found := line.supervisor) is None:
                pass
            return found

        answers = [in_thread(ask) for _ in range(4)]
        barrier.wait(WITHIN_S)
        host.introduce.set()
        assert [answer() for answer in answers] == [host.supervisor()] * 4


def test_each_line_is_a_process_of_its_own(connect: Connect) -> None:
    assert leases(connect()).logs("who").split()[0] != leases(connect()).logs("who").split()[0]


def test_one_that_waits_keeps_no_other_waiting(connect: Connect, host: Host) -> None:
    line = connect()
    waits = in_thread(lambda: leases(line).spent("1"))
    assert host.waiting.acquire(timeout=WITHIN_S)
    assert leases(line).cost("2") == 2.0
    host.go_on.set()
    assert waits() == 1.0


def test_progress_is_shown_while_the_thread_that_made_the_line_waits(connect: Connect, host: Host) -> None:
    shown = threading.Semaphore(0)
    line = connect("control", shown.release)

    def let_go() -> None:
        for _ in range(3):
            assert shown.acquire(timeout=WITHIN_S)
        host.go_on.set()

    done = in_thread(let_go)
    assert leases(line).spent("1") == 1.0
    done()
    before = shown._value
    in_thread(lambda: leases(line).cost("1"))()
    assert shown._value == before, "never in another thread"


def test_progress_is_shown_by_another_thread_that_takes_over(connect: Connect, host: Host) -> None:
    shown: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        line = pool.submit(connect, "control", lambda: shown.append(threading.get_ident())).result(WITHIN_S)
    leases(line).cost("1")
    assert shown == []
    line.move_home()
    leases(line).cost("1")
    assert set(shown) == {threading.get_ident()}


def test_a_call_that_is_broken_off_leaves_no_answer_behind(connect: Connect, host: Host) -> None:
    def interrupt() -> None:
        if host.waiting.acquire(blocking=False):
            raise KeyboardInterrupt

    line = connect("control", interrupt)
    first = leases(line).logs("who")
    with pytest.raises(KeyboardInterrupt):
        leases(line).spent("1")
    host.go_on.set()
    assert leases(line).cost("2") == 2.0
    again = leases(line).logs("who")
    assert again != first, "by another connection"
    assert again.split()[0] == first.split()[0], "of the same process"
    with pytest.raises(KeyboardInterrupt):
        leases(line).acquire("t", SERVER, True)
    assert host.noticed.acquire(timeout=WITHIN_S), "nobody waits for that instance"
    assert host.left.empty(), "that was not the end of the process"


def test_a_caller_that_is_gone_is_noticed_while_it_waits(connect: Connect, host: Host) -> None:
    line = connect()
    waits = in_thread(lambda: leases(line).acquire("t", SERVER, True))
    assert host.waiting.acquire(timeout=WITHIN_S)
    line.close()
    assert host.noticed.acquire(timeout=WITHIN_S)
    with pytest.raises(SupervisorGone):
        waits()
    assert leases(connect()).cost("1") == 1.0, "others are not concerned"


def test_the_end_of_the_process_that_started_it_is_told_from_that_of_others(connect: Connect, host: Host) -> None:
    line = connect()
    name = leases(line).logs("who").split()[0]
    line.close()
    assert host.left.get(timeout=WITHIN_S) == (name, False)
    line = connect("control")
    name = leases(line).logs("who").split()[0]
    line.close()
    assert host.left.get(timeout=WITHIN_S) == (name, True)


def test_a_line_that_was_closed_says_so(connect: Connect) -> None:
    line = connect()
    line.close()
    line.close()
    with pytest.raises(SupervisorGone, match=r"^the run is over, and everything was given back$"):
        leases(line).cost("1")


def test_other_connections_arrive_where_they_belong(connect: Connect, host: Host) -> None:
    line = connect("control")
    for role in ("events", "hooks"):
        sock = line.connect(role)
        assert host.attached.get(timeout=WITHIN_S) == role
        line.hang_up(sock)
    assert leases(line).cost("1") == 1.0


def test_the_default_time_limit_of_sockets_is_not_that_of_answers(connect: Connect, host: Host) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.001)
    try:
        line = connect()
        assert leases(line).cost("2") == 2.0
        threading.Event().wait(0.05)  # longer than that limit: either side waits for the other
        waits = in_thread(lambda: leases(line).spent("1"))
        assert host.waiting.acquire(timeout=WITHIN_S)
        threading.Event().wait(0.05)
        host.go_on.set()
        assert waits() == 1.0
        assert leases(line).cost("2") == 2.0
        listener = Listener()
        assert listener.socket.gettimeout() is None
        listener.remove()
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    ["os.getuid", "os.getpid", "socket.socket.getsockopt", "struct.unpack", "json.JSONEncoder.encode", "json.loads"],
)
def test_what_a_test_replaces_is_not_what_a_new_thread_asks_with(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def asks() -> bool:
        line = connect()
        monkeypatch.setattr(name, lambda *_, **__: 12345)
        return bool(in_thread(lambda: leases(line).cost("2"))() == 2.0)

    forked(asks)  # a worker of xdist that gets its next tests just then needs what is replaced


@pytest.mark.parametrize("kind", [TimeoutError, ZeroDivisionError])
def test_what_a_signal_handler_raises_is_no_end_of_the_supervisor(
    connect: Connect, host: Host, kind: type[Exception]
) -> None:
    calls = leases(connect())

    def handle(*_: object) -> None:
        raise kind("of the handler")

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        main = threading.get_ident()

        def interrupt() -> None:
            assert host.waiting.acquire(timeout=WITHIN_S)
            signal.pthread_kill(main, signal.SIGUSR1)

        done = in_thread(interrupt)
        with pytest.raises(kind, match="of the handler"):
            calls.spent("1")
        done()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls.cost("2") == 2.0
