"""The program between execnet and the supervisor."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client import pipe
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core import messages
from tests.client.conftest import WITHIN_S

ASKS = {"label": "a"}


class Wrapper:
    """The program, and the supervisor's end of its connection."""

    def __init__(self, folder: Path) -> None:
        self.listener = Listener()
        self.listener.socket.settimeout(WITHIN_S)
        self.file = folder / "said.json"
        self.hello = {"secret": self.listener.address.secret, "role": "pipe"}
        self.file.write_text(json.dumps({"address": self.listener.address.path, "hello": self.hello, "asks": ASKS}))

    def start(self) -> subprocess.Popen[bytes]:
        end = subprocess.PIPE
        command = [sys.executable, "-I", "-S", str(pipe.__file__), str(self.file), "-u", "-c", "execnet's"]
        self.process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, bufsize=0)
        return self.process

    def accept(self) -> socket.socket:
        """The connection, of which the supervisor knows whose it is, and for what."""
        sock, _ = self.listener.socket.accept()
        sock.settimeout(WITHIN_S)
        assert [messages.receive(sock), messages.receive(sock)] == [self.hello, ASKS]
        return sock

    def over(self) -> tuple[int, bytes]:
        """Its exit status, and what it has complained about."""
        assert self.process.stderr is not None
        return self.process.wait(WITHIN_S), self.process.stderr.read()


@pytest.fixture
def wrapper(tmp_path: Path) -> Iterator[Wrapper]:
    wrapper = Wrapper(tmp_path)
    yield wrapper
    if hasattr(wrapper, "process"):
        wrapper.process.kill()
        wrapper.process.wait()
        for end in (wrapper.process.stdin, wrapper.process.stdout, wrapper.process.stderr):
            assert end is not None
            end.close()
    wrapper.listener.remove()


def ends(process: subprocess.Popen[bytes]) -> tuple[Any, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def test_bytes_go_both_ways_and_ctrl_c_is_not_for_it(wrapper: Wrapper) -> None:
    stdin, stdout = ends(wrapper.start())
    with wrapper.accept() as sock:
        wrapper.process.send_signal(signal.SIGINT)
        stdin.write(b"up \0\xff")
        assert sock.recv(100) == b"up \0\xff"
        sock.sendall(b"down \0\xff")
        assert stdout.read(100) == b"down \0\xff"
        stdin.close()  # pytest is gone
        assert sock.recv(100) == b""
    assert (wrapper.over(), stdout.read()) == ((0, b""), b"")


def test_its_secret_is_in_a_file_that_it_removes_and_in_no_command_line(wrapper: Wrapper) -> None:
    wrapper.start()
    with wrapper.accept():
        assert not wrapper.file.exists()
        said = (
            Path(f"/proc/{wrapper.process.pid}/cmdline").read_bytes()
            + Path(f"/proc/{wrapper.process.pid}/environ").read_bytes()
        )
    assert wrapper.listener.address.secret.encode() not in said


def test_a_supervisor_that_is_killed_ends_it_without_a_word(wrapper: Wrapper) -> None:
    _, stdout = ends(wrapper.start())
    wrapper.accept().close()  # all that a killed process does
    assert (stdout.read(), wrapper.over()) == (b"", (0, b""))


def test_a_pytest_that_takes_nothing_any_more_ends_it_without_a_word(wrapper: Wrapper) -> None:
    _, stdout = ends(wrapper.start())
    with wrapper.accept() as sock:
        stdout.close()
        sock.sendall(b"x")
        assert wrapper.over() == (0, b"")


@pytest.mark.parametrize("what", ["nobody listens", "no file", "no json"])
def test_where_there_is_no_way_it_says_so_in_one_line(wrapper: Wrapper, what: str) -> None:
    if what == "nobody listens":
        wrapper.listener.remove()
    elif what == "no file":
        wrapper.file.unlink()
    else:
        wrapper.file.write_text("{")
    wrapper.start()
    status, said = wrapper.over()
    assert status == 1
    assert said.startswith(b"vastgpu: no way to the host: ")
    assert said.count(b"\n") == 1
