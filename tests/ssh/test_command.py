from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.ssh.command import BoundedText
from pytest_vastgpu.ssh.command import Lines
from pytest_vastgpu.ssh.command import LineTooLong
from pytest_vastgpu.ssh.command import MarkedOutput
from pytest_vastgpu.ssh.command import shell_line

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "ksh", "busybox") if shutil.which(shell)]


def feed(marked: MarkedOutput, data: bytes, step: int) -> bytes:
    return b"".join(marked.feed(data[at : at + step]) for at in range(0, len(data), step))


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("preamble", [b"", b"Welcome\n", b"no end of line", b"pytest-vastgpu:pid none\n"])
def test_what_comes_before_the_mark_is_not_the_commands(step: int, preamble: bytes) -> None:
    marked = MarkedOutput()
    own = b"\xff\x00 binary\npytest-vastgpu:pid 7\n"
    assert feed(marked, preamble + b"pytest-vastgpu:pid 4711\n" + own, step) == own
    assert (marked.pid, marked.preamble) == (4711, preamble)


def test_without_a_mark_nothing_is_the_commands() -> None:
    marked = MarkedOutput()
    assert marked.feed(b"no sessions\n") == b""
    assert (marked.pid, marked.preamble) == (0, b"no sessions\n")
    for _ in range(64):
        marked.feed(b"x" * 65536)
    assert len(marked.preamble) == 1 << 20


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, ""),
        (9, "012345678"),
        (10, "0123456789"),
        (11, "01234\n[... 1 bytes left out ...]\n67890"),
        (1000, "01234\n[... 990 bytes left out ...]\n56789"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_of_too_much_output_the_middle_is_left_out(size: int, expected: str, step: int) -> None:
    data = (b"0123456789" * 100)[:size]
    bounded = BoundedText(10)
    for at in range(0, size, step):
        bounded.feed(data[at : at + step])
    assert bounded.text() == expected


def test_a_character_is_not_torn_where_head_and_tail_meet() -> None:
    bounded = BoundedText(6)
    bounded.feed("aéèz".encode())
    assert bounded.text() == "aéèz"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "command",
    [
        "printf %s 'a  b'",
        'printf %s "it\'s $((1+1)) `echo x` \\\\ !"',
        "printf 'one\ntwo'",
        "cat; printf '%s' \"$#$VALUE\"",
        "exit 7",
        "if",
        "(exit 3)",
        "printf é; exit 1",
    ],
)
def test_a_command_means_the_same_whatever_the_login_shell(shell: str, command: str) -> None:
    line, preface = shell_line(command, {"VALUE": "q'\"$x\n. \\n", "_x1": ""})
    login = [shell, "sh"] if shell == "busybox" else [shell]
    ours = subprocess.run([*login, "-c", line], input=preface + b"in\n", capture_output=True, check=False)
    env = {"VALUE": "q'\"$x\n. \\n", "_x1": "", "PATH": "/usr/bin:/bin"}
    plain = subprocess.run(["sh", "-c", command], input=b"in\n", capture_output=True, check=False, env=env)
    marked = MarkedOutput()
    assert marked.feed(ours.stdout) == plain.stdout
    assert marked.pid
    assert (ours.returncode, bool(ours.stderr)) == (plain.returncode, bool(plain.stderr))


@pytest.mark.parametrize(
    ("command", "env"),
    [
        ("true", {"A-B": "1"}),
        ("true", {"": "1"}),
        ("true", {"A;reboot": "1"}),
        ("true", {"A": "\0"}),
        ("a\0b", {}),
        ("a\ud800", {}),
    ],
)
def test_what_no_shell_could_take_is_refused(command: str, env: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"environment variable|NUL|no text"):
        shell_line(command, env)


def test_the_environment_is_not_on_the_command_line() -> None:
    line, preface = shell_line("true", {"TOKEN": "s3cret"})
    assert "s3cret" not in line
    assert b"s3cret" in preface


@given(st.binary() | st.text().map(str.encode), st.data())
def test_lines_are_the_same_however_they_arrive(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    lines = Lines(1 << 20)
    pieces = (stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True))
    whole = [line for piece in pieces for line in lines.feed(piece)]
    assert [*whole, lines.rest()] == stream.decode(errors="replace").split("\n")


def test_a_line_without_end_is_left() -> None:
    lines = Lines(1 << 20)
    assert lines.feed(b"one\ntwo") == ["one"]
    assert [lines.feed(b"x" * (1 << 16)) for _ in range(15)] == [[]] * 15
    with pytest.raises(LineTooLong, match="a line of more than 1 MB"):
        lines.feed(b"x" * (1 << 16))
    assert lines.rest() == ""
