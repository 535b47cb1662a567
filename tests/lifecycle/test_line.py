"""The line between workers and the controller, without either."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from multiprocessing.connection import Client

import pytest

from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.lifecycle.clock import Cancelled
from pytest_vastgpu.lifecycle.instance import Caller
from pytest_vastgpu.lifecycle.line import LineDesk
from pytest_vastgpu.lifecycle.line import LineServer


class Controller:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.waiting = threading.Event()
        self.gone = threading.Event()
        self.hung_up = threading.Event()
        self.server = LineServer({"say": self.say, "raise": self.fail, "wait": self.wait}, self.leave)

    def say(self, caller: Caller, *words: object) -> tuple[object, ...]:
        self.callers.append(caller)
        return words

    def fail(self, _caller: Caller, error: BaseException) -> None:
        raise error

    def wait(self, caller: Caller) -> None:
        self.waiting.set()
        while not caller.gone():
            time.sleep(0.01)
        self.gone.set()

    def leave(self, caller: Caller) -> None:
        self.callers.append(caller)
        self.hung_up.set()


@pytest.fixture
def controller() -> Iterator[Controller]:
    controller = Controller()
    yield controller
    controller.server.close()


@pytest.fixture
def worker(controller: Controller) -> Iterator[Callable[[], LineDesk]]:
    desks: list[LineDesk] = []

    def call() -> LineDesk:
        desks.append(LineDesk(controller.server.address, controller.server.token))
        return desks[-1]

    yield call
    for desk in desks:
        desk.close()


def test_each_worker_is_a_caller_of_its_own(controller: Controller, worker: Callable[[], LineDesk]) -> None:
    one, two = worker(), worker()
    assert one.call("say", 1, "two") == (1, "two")
    two.call("say")
    one.call("say")
    names = [caller.name for caller in controller.callers]
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (VastGpuError("a remedy"), VastGpuError, "^a remedy$"),
        (ProvisioningFailed("a story"), ProvisioningFailed, "^a story$"),
        (Cancelled(), Cancelled, "^$"),
        (KeyError("x"), VastGpuError, r"^KeyError: 'x' \(a defect of pytest-vastgpu: please report it\)$"),
    ],
)
def test_what_is_raised_there_is_raised_here(
    worker: Callable[[], LineDesk], error: Exception, expected: type[Exception], text: str
) -> None:
    with pytest.raises(expected, match=text):
        worker().call("raise", error)


def test_a_worker_that_is_gone_is_noticed_while_it_waits(
    controller: Controller, worker: Callable[[], LineDesk]
) -> None:
    client = Client(controller.server.address, family="AF_UNIX")
    client.send_bytes(controller.server.token.encode())
    client.send(("wait", ()))
    assert controller.waiting.wait(30)
    client.close()
    assert controller.gone.wait(30)
    assert controller.hung_up.wait(30)
    assert worker().call("say", "still here") == ("still here",)


EXPLODED: list[int] = []


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return explode, (1,)


def explode(value: int) -> None:
    EXPLODED.append(value)


@pytest.mark.parametrize("token", [b"", b"x" * 32, b"x" * 100_000])
def test_who_does_not_know_the_secret_is_hung_up_on(controller: Controller, token: bytes) -> None:
    with Client(controller.server.address, family="AF_UNIX") as client:
        with contextlib.suppress(OSError):  # it may be hung up on while it is still talking
            client.send_bytes(token)
        with pytest.raises((EOFError, OSError)):
            client.recv()
    assert controller.callers == []


def test_nothing_is_looked_at_before_the_secret(controller: Controller) -> None:
    with Client(controller.server.address, family="AF_UNIX") as client:
        client.send(Bomb())
        with pytest.raises((EOFError, OSError)):
            client.recv()
    assert not EXPLODED


def test_a_worker_whose_controller_is_gone_is_told_so(controller: Controller, worker: Callable[[], LineDesk]) -> None:
    desk = worker()
    desk.close()
    with pytest.raises(VastGpuError, match="the pytest process that rents for all workers is gone"):
        desk.call("say")


def test_nobody_is_let_in_when_it_is_closed(controller: Controller) -> None:
    controller.server.close()
    controller.server.close()
    with pytest.raises(OSError, match="refused"):
        Client(controller.server.address, family="AF_UNIX")
