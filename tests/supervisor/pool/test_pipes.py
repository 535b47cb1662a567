"""What is told of a host that runs tests, and of the way there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.client.calls import PipeRequest
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.model import State
from pytest_vastgpu.ssh.base import Conversed
from pytest_vastgpu.supervisor.client_run import ClientRun
from pytest_vastgpu.supervisor.event_outbox import EventOutbox
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.pool.pipes import ErrorLines
from pytest_vastgpu.supervisor.pool.pipes import converse
from pytest_vastgpu.supervisor.rental.server import workers
from tests.supervisor.test_client_runs import Runs

ASKED = PipeRequest("a-label", "exec a-program", "host 1")


class Connection:
    """One whose command ends as it is told."""

    def __init__(self, done: Conversed, says: bytes = b"", alive: bool = True) -> None:
        self.done = done
        self.says = says
        self.alive = alive
        self.ran: list[str] = []

    def converse(self, command: str, local: socket.socket, on_stderr: Any) -> Conversed:
        self.ran.append(command)
        on_stderr(self.says)
        return self.done

    def run(self, command: str, *, timeout_s: float) -> None:
        self.ran.append(command)


def rental(connection: Connection | None, state: State = State.READY) -> Any:
    connected = SimpleNamespace(connection=lambda: connection)
    return SimpleNamespace(
        connection=connected if connection else None,
        connected=connected,
        state=state,
        instance_id=7,
        touched=lambda: None,
    )


def told(connection: Connection, state: State = State.READY) -> tuple[list[str], list[str]]:
    """What is told, and what is shown."""
    said: list[str] = []
    shown: list[str] = []
    with socket.socket() as local:
        one = rental(connection)

        def tell(text: str) -> None:
            said.append(text)

        if state is not State.READY:
            connection.converse = lambda *_: (setattr(one, "state", state), connection.done)[1]  # type: ignore[method-assign, func-returns-value]
        converse(one, ASKED, local, tell, shown.append)
    return said, shown


@pytest.mark.parametrize(
    ("done", "says"),
    [
        (Conversed(9, 0), []),
        (Conversed(9, None), []),
        (Conversed(9, None, "the connection broke"), ["host 1: the connection broke"]),
        (Conversed(0, None, "the login shell did not run it"), ["host 1: the login shell did not run it"]),
        (Conversed(9, 127), ["host 1: the program that starts workers there ended with exit code 127"]),
    ],
)
def test_the_end_of_a_conversation_is_told_where_nobody_wanted_it(done: Conversed, says: list[str]) -> None:
    assert told(Connection(done)) == (says, [])
    assert told(Connection(done), State.DESTROYING) == ([], []), "what is given back ends in any way"


def test_what_is_left_on_the_instance_is_ended_where_it_can_be_reached() -> None:
    connection = Connection(Conversed(9, None))
    told(connection)
    assert connection.ran == [workers.start("exec a-program"), workers.end(9)]
    for unreachable in (Connection(Conversed(9, None), alive=False), Connection(Conversed(0, None, "not run"))):
        told(unreachable)
        assert unreachable.ran == [workers.start("exec a-program")]


@pytest.mark.parametrize(
    ("fed", "shown"),
    [
        ([b"[gw0] Fatal Python error\n"], ["[gw0 on host 1] Fatal Python error"]),
        ([b"sh: no such", b" file\r\n[gw", b"1] x\n"], ["[host 1] sh: no such file", "[gw1 on host 1] x"]),
        ([b"[gw0] \n"], ["[gw0 on host 1] "]),
        ([b"no end \xff"], ["[host 1] no end \N{REPLACEMENT CHARACTER}"]),
        ([b"x" * 40_000], [f"[host 1] {'x' * 16_384}", f"[host 1] {'x' * 16_384}", f"[host 1] {'x' * 7_232}"]),
    ],
)
def test_each_line_says_whose_it_is(fed: list[bytes], shown: list[str]) -> None:
    assert told_lines(fed) == shown


def told_lines(fed: list[bytes], **limits: int) -> list[str]:
    shown: list[str] = []
    lines = ErrorLines("host 1", shown.append, **limits)
    for data in fed:
        lines.feed(data)
    lines.close()
    return shown


def test_of_endless_complaints_the_beginning_and_the_end_are_told() -> None:
    shown = told_lines([b"[gw0] %06d\n" % number for number in range(10_000)], live_bytes=39, last_bytes=26)
    assert shown == [
        *(f"[gw0 on host 1] 00000{number}" for number in range(3)),
        "[host 1] [... 129935 bytes left out ...]",
        "[gw0 on host 1] 009998",
        "[gw0 on host 1] 009999",
    ]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ClientRun]:
    """A run of a supervisor that has rented nothing."""
    runs = Runs(tmp_path)
    client = runs.one()
    access = InstanceAccess(cast(Any, SimpleNamespace(find=lambda _: None)))
    client._owner = cast(Any, SimpleNamespace(opened=lambda: SimpleNamespace(access=access)))
    client.outbox = EventOutbox(last_s=0.0)
    client.stops()
    yield client
    runs.sockets[0].close()


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (encode(ASKED), "a host cannot run tests: no instance has the label 'a-label'"),
        ({"label": 1}, "a host cannot run tests: "),
        ([], "a host cannot run tests: "),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line_and_the_end_of_its_connection(
    client: ClientRun, message: object, says: str
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        messages.send(ours, message)
        client.attach("pipe", theirs)
    seen, shows = socket.socketpair()
    with seen, shows:
        client.outbox.close()
        client.outbox.send_all(shows)
        text = json.dumps(messages.receive(seen))
    assert says in text
    assert "\\n" not in text
