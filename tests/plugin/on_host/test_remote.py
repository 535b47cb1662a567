"""The program of a worker on a host, as far as it runs anywhere."""

from __future__ import annotations

import socket
from collections import Counter
from enum import StrEnum
from importlib.metadata import entry_points
from queue import Queue
from typing import Any

import execnet
import pytest

from pytest_vastgpu.plugin.on_host import remote
from pytest_vastgpu.plugin.on_host.worker_input import WorkerInputs
from tests.plugin.on_host.test_told import Node
from tests.plugin.on_host.test_told import host
from tests.plugin.on_host.test_told import tell
from tests.support.looks import PATIENCE_S


class Opaque:
    def __str__(self) -> str:
        return "opaque"


class Colour(StrEnum):
    RED = "red"


def test_of_what_cannot_be_sent_the_text_is_sent() -> None:
    value = {"a": [Opaque(), 1, 2.5, None, b"b"], "b": (Counter("aa"), {Colour.RED}, "\udc80"), Opaque(): {}}
    plain = remote._plain(value)
    assert plain == {"a": ["opaque", 1, 2.5, None, b"b"], "b": ({"a": 2}, {"red"}, "\\udc80"), "opaque": {}}
    execnet.dumps(plain)


def test_properties_are_what_a_junit_file_shows() -> None:
    cycle: list[Any] = [Opaque]
    cycle.append(cycle)
    plain = remote._plain({"user_properties": [("cycle", cycle), ("number", 3)]})
    assert plain == {"user_properties": [("cycle", str(cycle)), ("number", "3")]}


class Closed:
    """A channel that is closed."""

    def send(self, item: object) -> None:
        raise OSError("cannot send to a closed channel")


def test_a_closed_channel_stays_one() -> None:
    with pytest.raises(OSError, match="closed channel"):
        remote._Channel(Closed(), None).send(1)


@pytest.mark.parametrize(
    ("visible", "places", "expected"),
    [("", [0, 2], "0,2"), ("4,5,6", [0, 2], "4,6"), ("GPU-a,GPU-b", [1], "GPU-b"), ("3", [0], "3")],
)
def test_gpus_are_chosen_from_those_that_the_host_shows(
    monkeypatch: pytest.MonkeyPatch, visible: str, places: list[int], expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert remote._gpus(places) == expected


def test_plugins_that_are_not_here_are_not_loaded_there() -> None:
    names = sorted({each.name for each in entry_points(group="pytest11")})
    assert remote._unknown_plugins(names) == []
    assert remote._unknown_plugins(names[1:]) == ["-p", f"no:{names[0]}"]


CALLS_HOME = """
import socket
from pytest_vastgpu.plugin.on_host import remote

told = {}
remote._lead_home(channel, told, "sock_port")
with socket.create_connection(("127.0.0.1", told["sock_port"])) as caller:
    caller.sendall(b"is it me?")
    channel.send(caller.recv(100))
"""


def test_a_worker_can_call_a_port_that_a_plugin_names(pytester: pytest.Pytester) -> None:
    group = execnet.Group()
    node = Node()
    said: Queue[Any] = Queue()
    with socket.create_server(("127.0.0.1", 0)) as server:
        node.workerinput["sock_port"] = server.getsockname()[1]
        told = tell(WorkerInputs(pytester.parseconfig(), lambda _: host(), 1), node)
        channel = group.makegateway("popen").remote_exec(CALLS_HOME)
        channel.setcallback(
            lambda event: node.process_from_remote(event) if isinstance(event, tuple) else said.put(event)
        )
        called, _ = server.accept()
        with called:
            called.sendall(called.recv(100).upper())
            assert said.get(timeout=PATIENCE_S) == b"IS IT ME?"
            assert called.recv(100) == b"", "the end of the call arrives, too"
    group.terminate(PATIENCE_S)
    assert told["ports"] == ["sock_port"]
