"""Whoever does not belong to the run is hung up on, and keeps nobody who does from being heard."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import struct
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.client.rpc_client import RpcClient
from pytest_vastgpu.core import messages
from pytest_vastgpu.errors import SupervisorGone
from pytest_vastgpu.supervisor.rpc_server import STRANGERS
from pytest_vastgpu.supervisor.rpc_server import RpcServer
from tests.client.conftest import WITHIN_S
from tests.client.conftest import Connect
from tests.client.conftest import Host
from tests.client.conftest import call
from tests.client.conftest import leases
from tests.support.looks import PATIENCE_S
from tests.support.looks import forked
from tests.support.looks import until

pytestmark = [pytest.mark.usefixtures("server"), pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]
NOBODY = 65534
root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
SECRET = "<the secret>"
HELLO: dict[str, Any] = {"secret": SECRET, "role": "calls", "process": "p", "control": True}


def is_hung_up_on(sock: socket.socket) -> bool:
    """Without a word."""
    try:
        return sock.recv(100) == b""
    except ConnectionError:
        return True


def framed(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


def hello(**changes: Any) -> bytes:
    return framed(json.dumps({**HELLO, **changes}).encode())


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(hello(secret=""), id="no secret"),
        pytest.param(hello(secret="x" * 32), id="wrong secret"),
        pytest.param(hello(secret=None), id="null"),
        pytest.param(hello(secret=["<the secret>"]), id="list"),
        pytest.param(hello(secret="\udcff" * 8), id="surrogates"),
        pytest.param(hello(secret="ü"), id="not ascii"),
        pytest.param(framed(b"[]"), id="no object"),
        pytest.param(framed(b"{"), id="no json"),
        pytest.param(framed(b"[" * 500), id="deep"),
        pytest.param(framed(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."), id="pickle"),
        pytest.param(framed(b""), id="empty"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="http"),
        pytest.param(b"\xff\xff\xff\xff" + b"x" * 1000, id="huge"),
        pytest.param(hello(secret=SECRET, process="x" * 600), id="too long, with the secret"),
    ],
)
def test_who_does_not_know_the_secret_is_hung_up_on(
    listener: Listener, host: Host, connect: Connect, said: bytes
) -> None:
    with call(listener.address) as sock:
        sock.sendall(said.replace(SECRET.encode(), listener.address.secret.encode()))
        with contextlib.suppress(OSError):  # it may be hung up on while it is still talking
            sock.sendall(framed(b'{"call": "cost", "arguments": ["1"]}'))
        assert is_hung_up_on(sock)
    assert host.left.empty()
    assert leases(connect()).cost("1") == 1.0


def test_half_a_secret_is_none(listener: Listener) -> None:
    for said in (listener.address.secret[:-1], listener.address.secret + "0", listener.address.secret.upper()):
        with call(listener.address) as sock:
            sock.sendall(hello(secret=said))
            assert is_hung_up_on(sock)


@pytest.mark.parametrize("introduction_s", [0.05])
@pytest.mark.parametrize("said", [b"", b"\0", struct.pack("!I", 100) + b"{"])
def test_who_says_nothing_is_hung_up_on(listener: Listener, connect: Connect, server: RpcServer, said: bytes) -> None:
    with call(listener.address) as sock:
        sock.sendall(said)
        assert is_hung_up_on(sock)
    server._introduction_s = PATIENCE_S
    assert leases(connect()).cost("1") == 1.0


@pytest.mark.parametrize("introduction_s", [0.05])
def test_who_speaks_slowly_is_hung_up_on(listener: Listener, connect: Connect, server: RpcServer) -> None:
    """The time is for all that is said, not for each byte of it."""
    rest = list(hello(secret=listener.address.secret))
    with call(listener.address) as sock, contextlib.suppress(ConnectionError):
        while rest and not messages.readable(sock, 0.01):
            sock.sendall(bytes([rest.pop(0)]))
    assert rest, "it could say all of it"
    server._introduction_s = PATIENCE_S
    assert leases(connect()).cost("1") == 1.0


def test_who_has_said_the_secret_may_be_silent_for_as_long_as_it_likes(host: Host) -> None:
    listener = Listener()
    with call(listener.address) as sock:
        sock.sendall(hello(secret=listener.address.secret))  # before its time begins
        server = RpcServer(listener.socket, listener.address.secret, host, 0.02)
        with call(listener.address) as other:
            assert is_hung_up_on(other), "so long a time has passed"
        messages.send(sock, {"call": "cost", "arguments": ["1"]})
        assert messages.receive(sock)["result"] == 1.0
        server.close()


@pytest.mark.parametrize("introduction_s", [PATIENCE_S])
def test_a_hundred_strangers_keep_nobody_out(listener: Listener, connect: Connect, server: RpcServer) -> None:
    known = connect()
    assert leases(known).cost("0") == 0.0
    server._introduction_s = 0.05
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(call(listener.address)) for _ in range(100)]
        assert leases(known).cost("1") == 1.0, "one that has connected before"
        assert leases(connect()).cost("2") == 2.0, "one that comes now"
        assert all(map(is_hung_up_on, strangers))


def threads() -> list[threading.Thread]:
    """Of the server: one accepts, and each connection has one."""
    return [thread for thread in threading.enumerate() if thread.name == "vastgpu-line"]


@pytest.mark.parametrize("introduction_s", [PATIENCE_S])
def test_strangers_are_few_at_a_time(listener: Listener, host: Host) -> None:
    others = set(threads())
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(call(listener.address))
        until(lambda: len(set(threads()) - others), lambda count: count >= STRANGERS)
        assert len(set(threads()) - others) == STRANGERS
    assert host.left.empty()


@pytest.mark.parametrize("introduction_s", [PATIENCE_S])
def test_many_that_belong_to_the_run_may_come_at_once(listener: Listener) -> None:
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(call(listener.address)) for _ in range(100)]
        until(lambda: len(threads()), lambda count: count > STRANGERS)
        for caller in callers:
            caller.sendall(hello(secret=listener.address.secret))
            messages.send(caller, {"call": "cost", "arguments": ["1"]})
        assert [messages.receive(caller)["result"] for caller in callers] == [1.0] * 100


def test_a_moment_without_threads_is_not_the_end(
    listener: Listener, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def scarce(thread: threading.Thread) -> None:
        if thread.name == "vastgpu-line" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with call(listener.address) as sock:
        assert is_hung_up_on(sock)
    assert refused
    assert leases(connect()).cost("1") == 1.0


def test_a_moment_without_free_descriptors_is_not_the_end(listener: Listener, host: Host) -> None:
    """Somebody has to wait until there are some again."""
    waiting, before = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    waiting.settimeout(WITHIN_S)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with waiting, before:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 10, limits[1])
        )
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            before.connect(listener.address.path)  # a descriptor for the next one is taken in advance
            waiting.connect(listener.address.path)
            messages.send(waiting, {**HELLO, "secret": listener.address.secret})
            waiting.settimeout(0.1)
            messages.send(waiting, {"call": "cost", "arguments": ["1"]})
            answer = None
            with contextlib.suppress(TimeoutError):  # what an earlier test has left may be freed just now
                answer = messages.receive(waiting)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for each in taken:
                os.close(each)
        waiting.settimeout(WITHIN_S)
        assert (answer or messages.receive(waiting))["result"] == 1.0


def test_nobody_is_let_in_when_it_is_closed(server: RpcServer, listener: Listener) -> None:
    server.close()
    server.close()
    with pytest.raises(OSError, match="refused"):
        call(listener.address)


# ----------------------------------------------------------------------------------------------------- another user


def as_nobody(work: Callable[[], object]) -> Callable[[], object]:
    def somebody_else() -> object:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return work()

    return somebody_else


@root
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an abstract namespace")
def test_another_user_who_knows_the_secret_is_hung_up_on(listener: Listener, host: Host) -> None:
    def knock() -> bool:
        with call(listener.address) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(hello(secret=listener.address.secret))
                sock.sendall(framed(b'{"call": "cost", "arguments": ["1"]}'))
            return is_hung_up_on(sock)

    forked(as_nobody(knock))
    assert host.left.empty()


@root
def test_another_user_cannot_reach_a_socket_in_a_directory() -> None:
    listener = Listener(abstract=False)

    def knock() -> bool:
        with pytest.raises(PermissionError):
            call(listener.address)
        return True

    forked(as_nobody(knock))
    listener.remove()


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[RpcAddress]:
    """Where another user listens."""
    address = RpcAddress(f"\0vastgpu-test-{os.getpid()}-{tmp_path.name}", "the secret")
    heard, ears = os.pipe()
    goes_on, ends = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(ends)
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(address.path)
                sock.listen()
                os.write(ears, b"x")
                caller, _ = sock.accept()
                os.write(ears, b"<" + caller.recv(1000) + b">")
                os.read(goes_on, 1)
        finally:
            os._exit(0)
    os.read(heard, 1)
    yield address
    os.close(ends)
    assert os.read(heard, 100) == b"<>", "it does not hear the secret"
    os.waitpid(pid, 0)
    for each in (heard, ears, goes_on):
        os.close(each)


@root
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an abstract namespace")
def test_a_secret_is_not_told_to_another_user_who_listens(impostor: RpcAddress) -> None:
    with pytest.raises(SupervisorGone, match=r"^another user listens where the supervisor should$"):
        RpcClient(impostor, "process")
