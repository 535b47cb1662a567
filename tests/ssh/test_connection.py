from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import random
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
import pytest

from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.ssh.base import TransferFailed
from pytest_vastgpu.ssh.command import BoundedText
from pytest_vastgpu.ssh.connection import OUTPUT_LIMIT
from tests.ssh.conftest import NO_SSHD
from tests.ssh.conftest import SSHD
from tests.ssh.conftest import log_in
from tests.ssh.conftest import start_asyncssh
from tests.ssh.conftest import start_sshd
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.quick import only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vastgpu.ssh.connection import SshConnection
    from pytest_vastgpu.ssh.keys import KeyPair
    from tests.ssh.conftest import Server

LONG_S = 30.0
"""For what ends long before."""
TURN_S = 600.0
"""For what does not end by itself: the test moves the clock on by so much, once it has seen what it waits for."""


class Clock:
    """The clock of the connections, which a test can move on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("connection", "execution"):
        monkeypatch.setattr(f"pytest_vastgpu.ssh.{module}.time", clock)
    return clock


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """All that commands have printed so far, as far as it is in their results."""
    heard = bytearray()

    class Heard(BoundedText):
        def feed(self, data: bytes) -> None:
            super().feed(data)
            heard.extend(data)

    monkeypatch.setattr("pytest_vastgpu.ssh.connection.BoundedText", Heard)
    return heard


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is not waited for, and one on a busy machine may seem to hang."""
    monkeypatch.setattr("pytest_vastgpu.ssh.connection._KILL_LIMIT_S", LONG_S)
    monkeypatch.setattr("pytest_vastgpu.ssh.stream.LEAVE_S", LONG_S)


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Path]:
    """A file whose readers wait for the end of the test: for commands that no server is left to end."""
    path, fifo, over = tmp_path / "hold", tmp_path / "hold.fifo", tmp_path / "hold.over"
    os.mkfifo(fifo)
    path.hardlink_to(fifo)
    yield path
    over.touch()
    over.replace(path)  # for a reader that its server started and did not live to see
    with contextlib.suppress(OSError):  # the other side does not read
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize(
    ("command", "failure", "exit_code", "stdout", "stderr"),
    [
        ("echo out; echo err >&2", ProbeFailure.NONE, 0, "out\n", "err\n"),
        ("exit 3", ProbeFailure.COMMAND, 3, "", ""),
        ("kill -9 $$", ProbeFailure.COMMAND, 137, "", ""),
        ("kill -TERM $$", ProbeFailure.COMMAND, 143, "", ""),
        ("exit 255", ProbeFailure.COMMAND, 255, "", ""),
        ("cat", ProbeFailure.NONE, 0, "", ""),
        ("printf 'a\\n\\nb'", ProbeFailure.NONE, 0, "a\n\nb", ""),
        ("printf '\\377'", ProbeFailure.NONE, 0, "\ufffd", ""),
        ("echo kept; exec >&- 2>&-; sleep 0.1; exit 4", ProbeFailure.COMMAND, 4, "kept\n", ""),
    ],
)
def test_how_a_command_ends(
    connection: SshConnection, command: str, failure: ProbeFailure, exit_code: int, stdout: str, stderr: str
) -> None:
    result = connection.run(command, timeout_s=LONG_S, name="it")
    assert (result.failure, result.exit_code, result.stdout, result.stderr) == (failure, exit_code, stdout, stderr)
    assert (result.name, result.ok) == ("it", failure is ProbeFailure.NONE)


def test_a_time_out_keeps_what_was_printed_and_kills_the_command_with_its_children(
    connection: SshConnection, clock: Clock, heard: bytearray, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = f"echo half; echo problem >&2; sleep 1000 & echo $$ $! > {ready}; wait"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(connection.run, command, timeout_s=TURN_S)
        pids = [int(pid) for pid in ready.read_text().split()]
        until(lambda: bytes(heard), lambda data: b"half\n" in data and b"problem\n" in data)
        clock.ahead_s = TURN_S
        result = running.result()
    assert (result.failure, result.exit_code) == (ProbeFailure.TIMEOUT, None)
    assert (result.stdout, result.stderr) == ("half\n", "problem\n")
    until(lambda: [is_running(pid) for pid in pids], lambda running: running == [False, False])
    assert connection.run("echo next", timeout_s=LONG_S).stdout == "next\n"


@pytest.mark.slow
def test_endless_output_is_ended_too(connection: SshConnection, clock: Clock, heard: bytearray) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(connection.run, "yes", timeout_s=TURN_S)
        until(lambda: len(heard), lambda length: length > OUTPUT_LIMIT)
        clock.ahead_s = TURN_S
        result = running.result()
    assert result.failure is ProbeFailure.TIMEOUT
    assert result.stdout.startswith("y\ny\n")
    assert len(result.stdout) <= OUTPUT_LIMIT + 100


def test_a_process_left_in_the_background_does_not_hold_us(
    connection: SshConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pytest_vastgpu.ssh.execution._LINGER_S", 0.2)
    result = connection.run(f"sleep 1000 & echo $! > {tmp_path}/pid", timeout_s=LONG_S)
    try:
        assert (result.failure, result.exit_code) == (ProbeFailure.NONE, 0)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_of_20_megabytes_the_beginning_and_the_end_are_kept(connection: SshConnection) -> None:
    size = 20 << 20
    command = f"echo first; head -c {size} /dev/zero | tr '\\0' x; echo; echo last; echo fine >&2"
    result = connection.run(command, timeout_s=60)
    assert result.ok
    assert result.stderr == "fine\n"
    assert result.stdout.startswith("first\nxxx")
    assert result.stdout.endswith("xxx\nlast\n")
    left_out = size + len("first\n\nlast\n") - OUTPUT_LIMIT
    assert f"[... {left_out} bytes left out ...]" in result.stdout


def test_binary_stdin_larger_than_all_windows_while_the_command_prints(connection: SshConnection) -> None:
    data = random.Random(7).randbytes(6 << 20)
    result = connection.run("tee /dev/stderr | sha256sum", timeout_s=60, stdin=data)
    assert result.ok
    assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert len(result.stderr.encode()) > OUTPUT_LIMIT // 2


def test_a_command_that_does_not_read_its_stdin(connection: SshConnection) -> None:
    result = connection.run("exec <&-; echo no thanks", timeout_s=LONG_S, stdin=bytes(8 << 20))
    assert (result.failure, result.stdout) == (ProbeFailure.NONE, "no thanks\n")


def test_the_environment_comes_before_stdin_and_in_no_process_list(connection: SshConnection) -> None:
    env = {"SECRET": "sec'ret\n\"x$", "EMPTY": ""}
    result = connection.run(
        'printf \'%s|%s|\' "$SECRET" "${EMPTY-unset}"; cat; cat /proc/$$/cmdline /proc/$PPID/cmdline',
        timeout_s=LONG_S,
        stdin=b"body ",
        env=env,
    )
    assert result.stdout.startswith("sec'ret\n\"x$||body ")
    assert "sec'ret" not in result.stdout[15:]


def test_many_commands_at_once(connection: SshConnection) -> None:
    def one(number: int) -> tuple[str, int | None]:
        result = connection.run(f"cat; echo {number}; exit {number}", timeout_s=60, stdin=b"%d " % number)
        return result.stdout, result.exit_code

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(50)))
    assert answers == [(f"{number} {number}\n", number) for number in range(50)]


@pytest.mark.skipif(SSHD is None, reason=NO_SSHD)
def test_a_server_that_allows_few_sessions(tmp_path: Path, key: KeyPair) -> None:
    server = start_sshd(tmp_path, key, "MaxSessions 2")
    try:
        with contextlib.closing(log_in(server, key)) as connection, ThreadPoolExecutor(12) as pool:
            results = list(pool.map(lambda number: connection.run(f"echo {number}", timeout_s=60), range(12)))
    finally:
        server.stop()
    assert [each.stdout for each in results] == [f"{number}\n" for number in range(12)]


@pytest.mark.slow
def test_probes_run_at_the_same_time(connection: SshConnection, clock: Clock, heard: bytearray, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    os.mkfifo(there)
    os.mkfifo(back)
    probes = [
        Probe("asks", f'echo "$GREETING" > {there}; cat {back}', 2 * TURN_S),
        Probe("answers", f"cat {there}; echo fine > {back}", 2 * TURN_S),
        Probe("fails", "exit 9", 2 * TURN_S),
        Probe("slow", "echo so far; sleep 1000", TURN_S),
    ]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(connection.probe_all, probes, {"GREETING": "how are you"})
        until(lambda: bytes(heard), lambda data: b"so far\n" in data)
        clock.ahead_s = TURN_S
        results = running.result()
    assert {name: (each.failure.value, each.stdout) for name, each in results.items()} == {
        "asks": ("none", "fine\n"),
        "answers": ("none", "how are you\n"),
        "fails": ("command", ""),
        "slow": ("timeout", "so far\n"),
    }
    assert connection.probe_all([]) == {}


def test_what_the_login_shell_prints_is_not_the_commands(tmp_path: Path, key: KeyPair) -> None:
    server = start_asyncssh(tmp_path, key, "noisy")
    try:
        with contextlib.closing(log_in(server, key)) as connection:
            assert connection.run("echo mine", timeout_s=LONG_S).stdout == "mine\n"
    finally:
        server.stop()


def test_a_login_shell_that_runs_something_else_is_found_out(
    tmp_path: Path, key: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vastgpu.ssh.connection._NOT_RUN_PAUSE_S", LONG_S)  # it is sent once
    server = start_asyncssh(tmp_path, key, "tmux")
    try:
        with contextlib.closing(log_in(server, key)) as connection:
            result = connection.run("true", timeout_s=LONG_S)
    finally:
        server.stop()
    assert (result.failure, result.exit_code, result.stdout) == (ProbeFailure.NOT_RUN, None, "")
    assert "the command was not run; the login shell said: no sessions" in result.stderr


@pytest.mark.slow
def test_a_command_that_the_login_shell_has_not_started_is_sent_again(tmp_path: Path, key: KeyPair) -> None:
    server = start_asyncssh(tmp_path, key, "tmux-once")
    try:
        with contextlib.closing(log_in(server, key)) as connection:
            connection.write_file("written", b"whole")
            assert connection.run("cat written", timeout_s=LONG_S).stdout == "whole"
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["we close", "the server dies"])
def test_waiting_ends_when_the_connection_does(tmp_path: Path, key: KeyPair, hold: Path, who: str) -> None:
    server = start_asyncssh(tmp_path, key)
    connection = log_in(server, key)
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    ended: queue.Queue[int | None] = queue.Queue()
    try:
        lines: queue.Queue[str] = queue.Queue()
        stream = connection.stream(f"echo up; cat {hold}", lines.put, ended.put)
        assert lines.get(timeout=LONG_S) == "up"
        with ThreadPoolExecutor(12) as pool:
            first = pool.submit(connection.run, f"echo half; echo > {ready}; cat {hold}", timeout_s=600)
            ready.read_text()
            assert connection.run("true", timeout_s=LONG_S).ok  # the answer comes after what was printed before
            # More than run at once: some of them wait for a session.
            runs = [pool.submit(connection.run, f"cat {hold}", timeout_s=600) for _ in range(11)]
            if who == "we close":
                connection.close()
            else:
                server.stop()
            results = [run.result(LONG_S) for run in (first, *runs)]
        assert {result.failure for result in results} == {ProbeFailure.TRANSPORT}
        assert results[0].stdout == "half\n"
        assert all("the SSH connection broke" in result.stderr for result in results)
        assert ended.get(timeout=LONG_S) is None
        assert stream.wait(LONG_S)
        assert not connection.alive
        after = connection.run("true", timeout_s=LONG_S)
        assert (after.failure, after.exit_code) == (ProbeFailure.TRANSPORT, None)
    finally:
        connection.close()
        if who == "we close":
            server.stop()


def test_a_connection_that_breaks_is_told_of_also_where_paramiko_is_slow_to_say_so(
    tmp_path: Path, key: KeyPair, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = paramiko.Transport._unlink_channel  # type: ignore[attr-defined] # how it ends each of the channels
    one_ended, told = threading.Event(), threading.Event()

    def late(transport: paramiko.Transport, number: int) -> None:
        unlink(transport, number)
        if transport.saved_exception is not None and one_ended.is_set():
            told.wait(LONG_S)
        one_ended.set()

    server = start_asyncssh(tmp_path, key)
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    with contextlib.closing(log_in(server, key)) as connection, ThreadPoolExecutor(2) as pool:
        runs = []
        for _ in range(2):
            runs.append(pool.submit(connection.run, f"echo > {ready}; cat {hold}", timeout_s=TURN_S))
            ready.read_text()
        monkeypatch.setattr(paramiko.Transport, "_unlink_channel", late)
        server.stop()
        try:
            (first, *_), others = wait(runs, LONG_S, FIRST_COMPLETED)
        finally:
            told.set()
        assert len(others) == 1
        assert first.result().failure is ProbeFailure.TRANSPORT
        assert "the SSH connection broke" in first.result().stderr


@pytest.mark.parametrize("when", only(["before"], ["before", "after"]))
def test_a_server_that_no_longer_answers(
    tmp_path: Path, key: KeyPair, hold: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr("pytest_vastgpu.ssh.connection._KILL_LIMIT_S", 0.2)
    server = start_asyncssh(tmp_path, key)
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    try:
        with contextlib.closing(log_in(server, key)) as connection, ThreadPoolExecutor(1) as pool:
            if when == "before":
                os.kill(server.pid, signal.SIGSTOP)
                running = pool.submit(connection.run, "true", timeout_s=0.2)
            else:
                running = pool.submit(connection.run, f"echo > {ready}; cat {hold}", timeout_s=TURN_S)
                ready.read_text()
                os.kill(server.pid, signal.SIGSTOP)
                clock.ahead_s = TURN_S
            result = running.result(LONG_S)
        assert (result.failure, result.exit_code) == (ProbeFailure.TIMEOUT, None)
    finally:
        os.kill(server.pid, signal.SIGCONT)
        server.stop()


@pytest.mark.slow
@pytest.mark.skipif(SSHD is None, reason=NO_SSHD)
def test_a_command_given_up_before_the_login_shell_came_to_it_is_not_begun(
    tmp_path: Path, key: KeyPair, clock: Clock
) -> None:
    gate, done, begun = tmp_path / "gate", tmp_path / "done", tmp_path / "begun"
    os.mkfifo(gate)
    os.mkfifo(done)
    server = start_sshd(tmp_path, key, f'ForceCommand cat {gate}; sh -c "$SSH_ORIGINAL_COMMAND"; echo > {done}')
    try:
        with contextlib.closing(log_in(server, key)) as connection, ThreadPoolExecutor(1) as pool:
            running = pool.submit(connection.run, f"touch {begun}", timeout_s=TURN_S)
            with gate.open("w"):  # the login shell has got to it
                clock.ahead_s = TURN_S
                result = running.result()
            assert (result.failure, result.stdout) == (ProbeFailure.TIMEOUT, "")
            done.read_text()
            assert not begun.exists()
    finally:
        server.stop()


def test_a_stream_that_waits_for_a_session_can_be_closed(connection: SshConnection) -> None:
    lines: queue.Queue[str] = queue.Queue()
    streams = [connection.stream("echo up; sleep 1000", lines.put) for _ in range(9)]
    for _ in range(8):
        assert lines.get(timeout=LONG_S) == "up"
    assert connection.run("true", timeout_s=0.2).failure is ProbeFailure.TIMEOUT
    for stream in reversed(streams):
        stream.close()
    assert connection.run("true", timeout_s=LONG_S).ok


def test_closing_twice_and_from_many_threads(server: Server, key: KeyPair) -> None:
    connection = log_in(server, key)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: connection.close(), range(16)))
    assert not connection.alive


@pytest.mark.parametrize("data", [b"", b"text\n", bytes(range(256)) * 10_000], ids=["empty", "text", "binary"])
def test_a_written_file(connection: SshConnection, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "it's a $(file)"
    connection.write_file(str(path), data)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600
    connection.write_file(str(path), b"#!/bin/sh\n", mode=0o755)
    assert path.read_bytes() == b"#!/bin/sh\n"
    assert path.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in path.parent.iterdir() if each.name.startswith("it")] == [path.name]


def test_a_file_that_cannot_be_written(connection: SshConnection, tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="cannot write") as caught:
        connection.write_file(str(tmp_path / "no" / "folder"), b"data")
    assert caught.value.result.failure is ProbeFailure.COMMAND
    assert str(connection.address) in str(caught.value)


def test_lines_are_handed_over_as_they_arrive(connection: SshConnection, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    lines: queue.Queue[str] = queue.Queue()
    ended: queue.Queue[int | None] = queue.Queue()
    stream = connection.stream(
        f"echo \"$WHAT\"; printf 'h\\303'; cat {gate}; printf '\\251\\n\\nno end of line'; echo said >&2; exit 5",
        lines.put,
        ended.put,
        env={"WHAT": "first"},
    )
    assert lines.get(timeout=LONG_S) == "first"
    assert stream.alive
    assert lines.empty()
    gate.write_text("")
    assert [lines.get(timeout=LONG_S) for _ in range(3)] == ["hé", "", "no end of line"]
    assert ended.get(timeout=LONG_S) == 5
    assert stream.wait(LONG_S)
    assert stream.stderr == "said\n"


def test_closing_a_stream_kills_its_command_and_frees_its_session(connection: SshConnection) -> None:
    for _ in range(12):
        lines: queue.Queue[str] = queue.Queue()
        ended: queue.Queue[int | None] = queue.Queue()
        stream = connection.stream("echo $$; exec sleep 1000", lines.put, ended.put)
        pid = int(lines.get(timeout=LONG_S))
        stream.close()
        assert not stream.alive
        assert ended.get_nowait() is None
        until(partial(is_running, pid), lambda running: not running)
    assert connection.run("echo fine", timeout_s=LONG_S).ok


def test_a_stream_can_be_closed_from_its_own_callback(connection: SshConnection) -> None:
    seen: list[str] = []
    known = threading.Event()

    def on_line(line: str) -> None:
        seen.append(line)
        assert known.wait(LONG_S)
        stream.close()

    stream = connection.stream("echo one; exec sleep 1000", on_line)
    known.set()
    assert stream.wait(LONG_S)
    assert seen == ["one"]


def test_a_reader_of_lines_that_hangs_keeps_the_end_from_nothing(
    connection: SshConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vastgpu.ssh.stream.LEAVE_S", 0.1)
    over, begun = threading.Event(), threading.Event()

    def on_line(_: str) -> None:
        begun.set()
        over.wait()

    stream = connection.stream("echo one; exec sleep 1000", on_line)
    try:
        assert begun.wait(LONG_S)
        connection.close()
        assert stream.alive
    finally:
        over.set()
    assert stream.wait(LONG_S)


def test_hanging_up_ends_a_command_by_its_stdin(connection: SshConnection) -> None:
    lines: queue.Queue[str] = queue.Queue()
    ended: queue.Queue[int | None] = queue.Queue()
    stream = connection.stream("echo $$; yes & cat; kill $!", lines.put, ended.put)
    pid = int(lines.get(timeout=LONG_S))
    assert lines.get(timeout=LONG_S) == "y"
    stream.hang_up()
    assert connection.run(f"while kill -0 {pid} 2>/dev/null; do sleep 0.01; done", timeout_s=LONG_S).ok
    assert ended.get(timeout=LONG_S) is None
    assert stream.wait(LONG_S)


def test_the_end_of_stdin_is_not_told_of_a_command_that_has_ended(
    connection: SshConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers end the whole connection for it. paramiko's way of sending leaves the moment open; here it is met."""
    send = paramiko.Transport._send_user_message  # type: ignore[attr-defined] # where all messages pass
    met = 0

    def late(transport: paramiko.Transport, message: paramiko.Message) -> None:
        nonlocal met
        if message.asbytes()[0] == 96:  # SSH_MSG_CHANNEL_EOF
            time.sleep(0.1)  # meanwhile the other side closes
            met += 1
        send(transport, message)

    monkeypatch.setattr(paramiko.Transport, "_send_user_message", late)
    for _ in range(3):
        assert connection.run("exit 3", timeout_s=LONG_S).exit_code == 3
    assert met
    assert connection.alive


@pytest.mark.slow
def test_what_arrives_while_we_hang_up_harms_nobody(connection: SshConnection) -> None:
    """paramiko would write to a descriptor that was just closed, and end the connection for it."""
    for number in range(100):
        stream = connection.stream("while echo x; do :; done", lambda _: None)
        until = time.monotonic() + number % 25 / 1000
        while time.monotonic() < until:  # at any moment of the command's start
            pass
        stream.hang_up()
        assert stream.wait(LONG_S)
    assert connection.run("echo fine", timeout_s=LONG_S).ok


def test_a_stream_whose_line_never_ends_is_broken_off(connection: SshConnection) -> None:
    lines: list[str] = []
    ended: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    stream = connection.stream("echo up; tr '\\0' x < /dev/zero", lines.append, ended.put)
    assert ended.get(timeout=LONG_S) is None
    assert stream.problem == "it printed a line of more than 2 MB"
    assert lines == ["up"]
    assert connection.run("true", timeout_s=LONG_S).ok
