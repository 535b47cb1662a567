"""A real server on a real socket, whose answers the tests know."""

from __future__ import annotations

import itertools
import os
import queue
import socket
import threading
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import Protocol
from typing import cast

import pytest

from pytest_vastgpu.client.calls import Closing
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.client.rpc_client import RpcClient
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.alive import left
from pytest_vastgpu.supervisor.rpc_server import INTRODUCTION_S
from pytest_vastgpu.supervisor.rpc_server import Caller
from pytest_vastgpu.supervisor.rpc_server import RpcServer
from tests.support.factories import make_offer

SERVER = Workload("command", gpu_name="RTX 4090")
WITHIN_S = 30.0
"""Nothing that is waited for takes so long, unless it never comes."""


class Host:
    """Talks to test processes as a supervisor does, and rents nothing."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        """Of the connections."""
        self.errors: dict[str, BaseException] = {}
        """What ``failed`` raises, by label."""
        self.waiting = threading.Semaphore(0)
        """Released by each call that waits."""
        self.introduce = threading.Event()
        """What it waits for before it says who it is."""
        self.introduce.set()
        self.go_on = threading.Event()
        """What ``spent`` waits for."""
        self.noticed = threading.Semaphore(0)
        """Released by each ``acquire`` that noticed that its caller is gone."""
        self.left: queue.Queue[tuple[str, bool]] = queue.Queue()
        """Processes that have gone, and whether they had started us."""
        self.attached: queue.Queue[str] = queue.Queue()
        self.collected: queue.Queue[Collected] = queue.Queue()

    def session(self, caller: Caller) -> RunControl:
        return cast(RunControl, Session(self, caller))

    def supervisor(self) -> Supervisor:
        self.introduce.wait(WITHIN_S)
        return Supervisor(os.getpid(), "/where/its/log/is")

    def hung_up(self, process: str, *, control: bool) -> None:
        self.left.put((process, control))

    def events(self) -> int:
        return 0

    def attach(self, role: str, sock: socket.socket) -> None:
        self.attached.put(role)
        sock.recv(1)


class Session:
    """The calls of one connection."""

    def __init__(self, host: Host, caller: Caller) -> None:
        self._host = host
        self._caller = caller
        self._number = next(host.numbers)

    def collected(self, found: Collected) -> None:
        self._host.collected.put(found)
        if found.problems:
            raise self._host.errors[found.problems[0]]

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        """Waits until its caller is gone, or gives what it was asked for back."""
        if exclusive:
            self._host.waiting.release()
            while not self._caller.gone():
                self._host.go_on.wait(0.01)
            self._host.noticed.release()
            raise Cancelled
        return Lease(test, 7, make_offer(gpu_name=workload.gpu_name), "http://127.0.0.1:1", {"A": "b"}, {"ready": 1.5})

    def spent(self, test: str) -> float:
        """Its argument, as soon as that is allowed."""
        self._host.waiting.release()
        self._host.go_on.wait(WITHIN_S)
        return float(test)

    def logs(self, label: str) -> str:
        """Who asks, by which connection."""
        return label * 100 if label.startswith("x") else f"{self._caller.process} {self._number}"

    def cost(self, label: str) -> float:
        return cast(float, label) if label == "no number" else float(label)

    def run(self, label: str, command: str, timeout_s: float, stdin: str) -> ProbeResult:
        return ProbeResult(label, ProbeFailure.NONE, 0, command, "", timeout_s)

    def failed(self, label: str) -> None:
        raise self._host.errors[label]

    def finished(self, test: str) -> None:
        """Only for the process that started us."""

    def close(self, within_s: float) -> Closing:
        return Closing(Summary([], [left("one", "a run", 0.0)], [], ""), [])


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.remove()


@pytest.fixture
def introduction_s() -> float:
    """How long a stranger has."""
    return INTRODUCTION_S


@pytest.fixture
def largest_answer() -> int:
    """Bytes of the largest message that the server sends."""
    return messages.LARGEST


@pytest.fixture
def server(host: Host, listener: Listener, introduction_s: float, largest_answer: int) -> Iterator[RpcServer]:
    server = RpcServer(listener.socket, listener.address.secret, host, introduction_s, largest_answer)
    yield server
    host.go_on.set()
    host.introduce.set()
    server.close()


Connect = Callable[..., RpcClient]


@pytest.fixture
def connect(server: RpcServer, listener: Listener) -> Iterator[Connect]:
    """Lines to the server; of a process, where nothing else is said."""
    lines: list[RpcClient] = []

    def connect(role: str = "process", idle: Callable[[], None] = lambda: None) -> RpcClient:
        lines.append(RpcClient(listener.address, role, idle))
        return lines[-1]

    yield connect
    for line in lines:
        line.close()


def call(address: RpcAddress) -> socket.socket:
    """A connection to where somebody listens, on which nothing was said."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(WITHIN_S)
    try:
        sock.connect(address.path)
    except OSError:
        sock.close()
        raise
    return sock


class OfInstance(Protocol):
    """Calls of an instance as they travel: with its label."""

    def run(self, label: str, command: str, timeout_s: float, stdin: str) -> ProbeResult: ...

    def logs(self, label: str) -> str: ...

    def failed(self, label: str) -> None: ...


class AnyCalls(Leases, OfInstance, Protocol):
    """What any test process may ask."""


class ControlCalls(RunControl, OfInstance, Protocol):
    """What the process that started the supervisor may ask."""


def leases(line: RpcClient) -> AnyCalls:
    return cast(AnyCalls, line.calls(Leases))  # type: ignore[type-abstract] # a protocol, from which calls are made


def control(line: RpcClient) -> ControlCalls:
    return cast(ControlCalls, line.calls(RunControl))  # type: ignore[type-abstract] # as above


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Work in another thread; what gives its result."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: future.result(WITHIN_S)
