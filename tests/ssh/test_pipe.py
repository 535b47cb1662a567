"""A command whose input and output are a local socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import paramiko
import pytest

from pytest_vastgpu.ssh import pipe
from pytest_vastgpu.ssh.base import Conversed
from pytest_vastgpu.ssh.command import MarkedOutput
from pytest_vastgpu.ssh.command import shell_line
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.execution import LEAVE_S
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.pipe import converse
from tests.ssh.conftest import log_in
from tests.ssh.conftest import start_asyncssh
from tests.support.looks import PATIENCE_S
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.quick import only

BIG = bytes(range(256)) * 80_000
"""More than fits into all windows and buffers: 20 MB."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that neither prints nor ends once its input has ended is waited for: a busy machine may be slow."""
    monkeypatch.setattr("pytest_vastgpu.ssh.execution.LEAVE_S", PATIENCE_S)


@dataclass
class Talk:
    """A conversation that goes on in a thread."""

    home: socket.socket
    done: Future[Conversed]
    said: bytearray
    """On standard error."""

    def rest(self) -> bytes:
        """What the command prints, to its end."""
        with self.home.makefile("rb") as output:
            return output.read()


@contextlib.contextmanager
def talk(connection: SshConnection, command: str, once: bool = False) -> Iterator[Talk]:
    """Start it.

    :param once: In one session, whether or not the login shell runs it there.
    """

    def run() -> Conversed:
        with local:
            if once:
                session = connection.session(None)
                return converse(session, *shell_line(command, {}), local, said.extend, PATIENCE_S)
            return connection.converse(command, local, said.extend)

    home, local = socket.socketpair()
    home.settimeout(PATIENCE_S)
    said = bytearray()
    with home, ThreadPoolExecutor(1) as pool:
        try:
            yield Talk(home, pool.submit(run), said)
        finally:
            home.close()


@pytest.mark.usefixtures("patient")
def test_megabytes_go_both_ways_and_a_side_that_takes_nothing_holds_up_no_other_command(
    connection: SshConnection,
) -> None:
    with talk(connection, "cat") as cat:

        def send() -> None:
            cat.home.sendall(BIG)
            cat.home.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        # Nobody reads at home: soon both directions are full, unless a server keeps it all in its memory.
        assert all(connection.run("true", timeout_s=PATIENCE_S, spare=spare).ok for spare in (True, False))
        assert cat.rest() == BIG
        sending.join()
        assert cat.done.result(PATIENCE_S).exit_code == 0


@pytest.mark.usefixtures("patient")
def test_each_end_is_passed_on_and_standard_error_is_apart(connection: SshConnection) -> None:
    with talk(connection, "cat; echo end; echo apart >&2; exit 3") as cat:
        cat.home.sendall(b"half ")
        cat.home.shutdown(socket.SHUT_WR)
        assert cat.rest() == b"half end\n"
        done = cat.done.result(PATIENCE_S)
    assert (done.exit_code, done.problem, bytes(cat.said)) == (3, "", b"apart\n")
    assert done.pid


@pytest.mark.parametrize("command", only(["yes"], ["yes", "trap '' PIPE TERM HUP; echo; while :; do sleep 0.05; done"]))
def test_what_goes_on_when_nobody_listens_is_left_with_its_process_id(connection: SshConnection, command: str) -> None:
    with talk(connection, command) as deaf:
        assert deaf.home.recv(1)
        deaf.home.close()
        done = deaf.done.result(PATIENCE_S)
    assert (done.exit_code, done.problem) == (None, "")
    connection.kill(done.pid)
    until(lambda: is_running(done.pid), lambda running: not running)


def test_home_sees_the_end_of_a_connection_that_breaks(tmp_path: Path, key: KeyPair) -> None:
    server = start_asyncssh(tmp_path, key)
    with contextlib.closing(log_in(server, key)) as connection, talk(connection, "echo up; cat") as cat:
        assert cat.home.recv(3) == b"up\n"
        server.stop()
        assert cat.rest() == b""
        done = cat.done.result(PATIENCE_S)
    assert (done.exit_code, done.problem) == (None, "the connection broke")


@pytest.mark.usefixtures("patient")
def test_a_login_shell_that_runs_something_else_is_told_and_takes_nothing(tmp_path: Path, key: KeyPair) -> None:
    server = start_asyncssh(tmp_path, key, "tmux-once")
    try:
        with contextlib.closing(log_in(server, key)) as connection, talk(connection, "cat") as cat:
            cat.home.sendall(b"all of it")
            cat.home.shutdown(socket.SHUT_WR)
            assert cat.rest() == b"all of it"  # in the second session, none of it being lost in the first
    finally:
        server.stop()


def test_what_the_login_shell_said_in_place_of_the_command_is_the_problem(tmp_path: Path, key: KeyPair) -> None:
    server = start_asyncssh(tmp_path, key, "tmux")
    try:
        with contextlib.closing(log_in(server, key)) as connection, talk(connection, "cat", once=True) as cat:
            done = cat.done.result(PATIENCE_S)
            assert cat.rest() == b""
    finally:
        server.stop()
    assert (done.pid, done.problem) == (0, "the login shell did not run it, and said: no sessions")


def test_a_side_that_has_ended_its_direction_gets_the_rest_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(pipe, "time", SimpleNamespace(monotonic=lambda: now))
    home, local = socket.socketpair()
    channel = paramiko.Channel(0)
    channel.eof_sent = True  # so that it sends nothing
    marked = MarkedOutput()
    with home, local:
        joined = pipe._Joined(channel, local, marked, now + PATIENCE_S)
        home.shutdown(socket.SHUT_WR)
        joined.take(b"pytest-vastgpu:pid 1\n")
        joined._upward.join(PATIENCE_S)
        for _ in range(5):
            assert joined.deadline() == now + LEAVE_S
            now += LEAVE_S / 2
            joined.take(b"more")
        assert home.recv(100) == b"more" * 5
