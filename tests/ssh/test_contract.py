"""What every connection must do: SSH to a real server, and the one in memory that other tests use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.ssh.base import Connector
from pytest_vastgpu.ssh.connector import SshConnector
from pytest_vastgpu.ssh.keys import KeyPair
from tests.ssh.conftest import start_asyncssh
from tests.support.factories import make_offer
from tests.support.looks import refusing
from tests.support.memory import MemoryConnector
from tests.support.memory import MemoryProvider
from tests.support.memory import Script
from tests.support.memory import fleet
from tests.support.virtual import VirtualClock

WITHIN_S = 20.0


@dataclass
class Case:
    connector: Connector
    address: SshAddress
    elsewhere: SshAddress
    """Where nothing is."""
    wait: Callable[[threading.Event], None]

    def connect(self) -> Connection:
        return self.connector.dialler()([self.address])


@pytest.fixture(params=["ssh", "memory"])
def case(request: pytest.FixtureRequest, tmp_path: Path, key: KeyPair, home: Path) -> Iterator[Case]:
    if request.param == "memory":
        clock = VirtualClock()
        offers = fleet(make_offer(), 1)
        provider = MemoryProvider(clock, offers, {1: Script(boot_s=0, refuses_s=0)})
        instance_id = provider.create(offers[0].id, CreateRequest("any/image", 10, "one"))
        provider.attach_key(instance_id, key.public_line)
        address = SshAddress("memory.invalid", instance_id, "direct")
        elsewhere = SshAddress("memory.invalid", 999, "direct")
        yield Case(MemoryConnector(provider, clock), address, elsewhere, lambda _: clock.sleep(1))
        return
    server = start_asyncssh(tmp_path, key)
    with refusing() as port:
        elsewhere = SshAddress("127.0.0.1", port, "direct")
        yield Case(SshConnector(key, 10.0), server.address, elsewhere, lambda event: _wait(event))
    server.stop()


def _wait(event: threading.Event) -> None:
    assert event.wait(WITHIN_S)


def test_commands_run_and_say_how_they_end(case: Case) -> None:
    connection = case.connect()
    assert connection.alive
    assert connection.address == case.address
    assert connection.run("true", timeout_s=WITHIN_S).ok
    failed = connection.run("exit 3", timeout_s=WITHIN_S, name="fails")
    assert (failed.name, failed.failure, failed.exit_code) == ("fails", ProbeFailure.COMMAND, 3)
    assert connection.run("no-such-program", timeout_s=WITHIN_S).exit_code == 127
    both = connection.probe_all([Probe("a", "true"), Probe("b", "exit 1")])
    assert {name: result.ok for name, result in both.items()} == {"a": True, "b": False}
    connection.close()


def test_a_file_that_was_written_is_there(case: Case) -> None:
    connection = case.connect()
    connection.write_file("written", b"hello\n")
    assert connection.run("cat written", timeout_s=WITHIN_S).stdout == "hello\n"
    assert not connection.run("cat missing", timeout_s=WITHIN_S).ok
    connection.close()


def test_lines_of_a_stream_come_in_order_then_its_end(case: Case) -> None:
    connection = case.connect()
    seen: list[str | int | None] = []
    over = threading.Event()

    def on_end(code: int | None) -> None:
        seen.append(code)
        over.set()

    connection.stream("printf '%s\\n' one two three", lambda line: seen.append(line.strip()), on_end)
    case.wait(over)
    assert [each for each in seen if each != "%s\\n"] == ["one", "two", "three", 0]
    connection.close()


def test_a_connection_that_was_closed_is_of_no_use(case: Case) -> None:
    connection = case.connect()
    connection.close()
    assert not connection.alive
    result = connection.run("true", timeout_s=WITHIN_S)
    assert (result.failure, result.exit_code) == (ProbeFailure.TRANSPORT, None)


def test_where_nothing_is_nobody_lets_us_in(case: Case) -> None:
    with pytest.raises(ConnectFailed) as refused:
        case.connector.dialler()([case.elsewhere])
    assert refused.value.kind in {ProbeFailure.REFUSED, ProbeFailure.UNREACHABLE}
