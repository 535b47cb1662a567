"""Watching over a real SSH connection."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.connector import SshConnector
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental.server.monitor import ServerMonitor
from pytest_vastgpu.supervisor.rental.server.state import LogPiece
from pytest_vastgpu.supervisor.rental.server.state import ServerState
from pytest_vastgpu.supervisor.rental.server.state import ServerUpdate
from pytest_vastgpu.supervisor.rental.server.watched import WatchedServer
from tests.ssh.conftest import Server
from tests.ssh.conftest import start_asyncssh
from tests.support.virtual import VirtualClock

LONG_S = 30.0
PULSE_S = 0.5
LIMIT = 1_000_000


@pytest.fixture
def link(home: Path, tmp_path: Path) -> Iterator[ReconnectingConnection]:
    """To an instance on which a server prints its log."""
    (home / ".vastgpu").mkdir()
    (home / ".vastgpu" / "server.log").write_text("one\n")
    key = load_key({}, Path("/nonexistent"))
    server: Server = start_asyncssh(tmp_path, key)
    with closing(ReconnectingConnection(SshConnector(key, 10.0), [server.address])) as link:
        yield link
    server.stop()
    assert list((home / ".vastgpu").glob("watch.[0-9]*")) == []


def put(home: Path, text: str) -> None:
    with (home / ".vastgpu" / "server.log").open("a") as log:
        log.write(text)


def until(watch: ServerMonitor, log: str) -> Observation:
    """What is known once so much of the log is."""
    for _ in range(100):
        watch.keep_up()
        seen = watch.observe(0.0)
        if seen.log == log:
            return seen
        watch.wait(0.0, PULSE_S)
    pytest.fail(f"it has seen {seen}; {watch.trouble}")


def gone(link: ReconnectingConnection) -> bool:
    """Waits until no watcher is left on the instance."""
    look = "while ls -d .vastgpu/watch.[0-9]*; do sleep 0.02; done >/dev/null 2>&1"
    return link.run(look, LONG_S).ok


def break_off(link: ReconnectingConnection) -> None:
    """Ends the TCP connection under the SSH connection."""
    connection = link.living()
    assert isinstance(connection, SshConnection)
    connection._socket.shutdown(socket.SHUT_RDWR)


def test_news_arrive_and_nothing_is_left_when_the_watching_ends(link: ReconnectingConnection, home: Path) -> None:
    probe = Probe("answers", "echo $SECRET; (ps -eo args; cat .vastgpu/*.sh) | grep -c 's3cre[t]'")
    with closing(ServerMonitor(link, [probe], {"SECRET": "s3cret"}, LIMIT, CancelToken())) as watch:
        until(watch, "one\n")
        while not (seen := watch.observe(0.0)).probes["answers"].stdout:
            watch.wait(0.0, LONG_S)
        assert seen.probes["answers"].stdout == "s3cret\n0\n"
        put(home, "two\n")
        assert until(watch, "one\ntwo\n").exit_code is None
        assert watch.trouble == ""
    assert gone(link)


@pytest.mark.slow
def test_it_goes_on_from_where_it_was_when_the_connection_broke(link: ReconnectingConnection, home: Path) -> None:
    with closing(ServerMonitor(link, [], {}, LIMIT, CancelToken())) as watch:
        until(watch, "one\n")
        break_off(link)
        put(home, "two\n")
        until(watch, "one\ntwo\n")
    assert gone(link)


def test_a_watcher_that_is_killed_is_started_again(link: ReconnectingConnection, home: Path) -> None:
    with closing(ServerMonitor(link, [], {}, LIMIT, CancelToken())) as watch:
        until(watch, "one\n")
        left = next((home / ".vastgpu").glob("watch.*[0-9]"))
        os.kill(int(left.suffix[1:]), 9)
        put(home, "two\n")
        until(watch, "one\ntwo\n")
        assert watch.trouble.startswith("exit code 137")
        for file in (*left.iterdir(), left):
            file.rmdir() if file.is_dir() else file.unlink()
    assert gone(link)


def test_where_it_cannot_start_it_is_tried_again(link: ReconnectingConnection, home: Path) -> None:
    (home / ".vastgpu" / "server.log").unlink()
    with closing(ServerMonitor(link, [], {}, LIMIT, CancelToken())) as watch:
        watch.keep_up()
        watch.wait(0.0, LONG_S)
        assert "server.log" in watch.trouble
        put(home, "here I am\n")
        until(watch, "here I am\n")
    assert gone(link)


@pytest.mark.slow
def test_an_instance_that_is_out_of_reach(home: Path, tmp_path: Path, link: ReconnectingConnection) -> None:
    key = load_key({}, Path("/nonexistent"))
    folder = tmp_path / "other"
    folder.mkdir()
    server = start_asyncssh(folder, key)
    with (
        closing(ReconnectingConnection(SshConnector(key, 10.0), [server.address])) as other,
        closing(ServerMonitor(other, [], {}, LIMIT, CancelToken())) as watch,
    ):
        until(watch, "one\n")
        server.stop()
        with pytest.raises(ConnectFailed):
            watch_for_ever(watch)  # earlier news may still be there, and the connection ends a moment after its stream
    assert gone(link)


class Speaker:
    """A link to a host that always has something to say."""

    def __init__(self, says: str) -> None:
        self.asked = 0
        self._says = says

    def run(self, command: str, timeout_s: float) -> ProbeResult:
        self.asked += 1
        assert self.asked < 1000
        return ProbeResult("log", ProbeFailure.NONE, 0, self._says, "", 0.0)


@pytest.mark.parametrize(("says", "log"), [("61" * 65536, "aaa"), ("no hexadecimal", "")])
def test_a_log_that_grows_faster_than_it_is_read_is_caught_up_with_only_so_far(says: str, log: str) -> None:
    watch = ServerMonitor(cast(ReconnectingConnection, Speaker(says)), [], {}, LIMIT, CancelToken())
    watch.catch_up()
    assert watch.observe(0.0).log[:3] == log


def test_what_a_monitor_and_the_next_one_are_told_at_once_is_taken_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = ServerMonitor(cast(ReconnectingConnection, Speaker("")), [], {}, LIMIT, CancelToken())
    begun, both = threading.Event(), threading.Event()
    overtaken: list[bool] = []

    def take(state: ServerState, update: ServerUpdate) -> None:
        if begun.is_set():
            both.set()
        else:
            begun.set()
            overtaken.append(both.wait(0.5))

    monkeypatch.setattr(ServerState, "take", take)
    second = first.without_probes()
    late = threading.Thread(target=first.take, args=(LogPiece(0, b"one"),))
    late.start()
    begun.wait()
    second.take(LogPiece(0, b"one"))
    late.join()
    assert overtaken == [False]


def test_a_log_is_as_long_as_what_was_printed_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    link = cast(ReconnectingConnection, Speaker(""))
    monitor = ServerMonitor(link, [], {}, LIMIT, CancelToken())
    observe = monitor.observe

    def meanwhile(age_s: float) -> Observation:
        seen = observe(age_s)
        monitor.take(LogPiece(monitor.printed, b"more\n"))
        return seen

    monkeypatch.setattr(monitor, "observe", meanwhile)
    workload = command("serve")
    server = WatchedServer(
        monitor, link, None, workload, CommandAdapter(), "", lambda _: None, lambda _: None, VirtualClock()
    )
    log, printed = server.log(fresh=False)
    assert len(log) == printed
    server.replace("was stopped")
    assert server.end is not None
    assert len(server.end.log) == server.end.printed


def test_waiting_ends_when_it_is_called_off(link: ReconnectingConnection) -> None:
    patience = CancelToken()
    with closing(ServerMonitor(link, [], {}, LIMIT, patience)) as watch:
        until(watch, "one\n")
        caller = threading.Timer(0.1, patience.cancel)
        caller.start()
        with pytest.raises(Cancelled):
            watch_for_ever(watch)
        caller.join()
    assert gone(link)


def watch_for_ever(watch: ServerMonitor) -> None:
    while True:
        watch.keep_up()
        watch.observe(0.0)
        watch.wait(0.0, PULSE_S)


class Hasty:
    """A connection whose streams end before it returns them."""

    stderr = "no such file"
    problem = ""

    def connection(self) -> Hasty:
        return self

    def write_file(self, path: str, data: bytes) -> None:
        pass

    def hang_up(self) -> None:
        pass

    def stream(self, command: str, on_line: object, on_end: Callable[[int], None], env: object) -> Hasty:
        self.end = threading.Thread(target=on_end, args=(2,))
        self.end.start()
        self.end.join(0.2)
        return self


def test_why_it_has_ended_at_once_is_known() -> None:
    link = Hasty()
    with closing(ServerMonitor(cast(ReconnectingConnection, link), [], {}, LIMIT, CancelToken())) as watch:
        watch.keep_up()
        link.end.join(LONG_S)
        assert (watch.trouble, watch.runs) == ("exit code 2: no such file", False)
