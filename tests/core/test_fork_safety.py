"""What a forked child closes before anything else."""

from __future__ import annotations

import os
import socket

import pytest

from pytest_vastgpu.core.fork_safety import close_private
from pytest_vastgpu.core.fork_safety import keep_private
from pytest_vastgpu.core.fork_safety import keep_private_socket
from tests.support.looks import forked

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_forked_child_closes_what_is_the_parents() -> None:
    theirs, ours = os.pipe()
    one, other = socket.socketpair()
    with one, other:
        keep_private(ours)
        keep_private_socket(one)
        numbers = [ours, one.fileno()]
        forked(lambda: not any(is_open(number) for number in numbers))
        assert all(is_open(number) for number in numbers)
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        close_private(ours)
    os.close(theirs)
    assert not is_open(ours)
    close_private(ours)


def test_the_parents_end_is_seen_although_a_child_lives_on() -> None:
    theirs, ours = os.pipe()
    goes_on, ends = os.pipe()
    keep_private(ours)
    pid = os.fork()
    if not pid:
        os.close(ends)
        os.read(goes_on, 1)
        os._exit(0)
    close_private(ours)
    assert os.read(theirs, 1) == b""
    os.close(ends)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(goes_on)
    os.close(theirs)


def test_what_a_test_has_closed_before_keeps_nothing_else_open() -> None:
    pipes = [os.pipe() for _ in range(3)]
    pairs = [socket.socketpair() for _ in range(3)]
    for theirs, ours in pipes:
        keep_private(ours)
        keep_private(theirs)
    for pair in pairs:
        for sock in pair:
            keep_private_socket(sock)
    closed = [pipes[0][1], pipes[2][0], pairs[1][0].fileno()]
    for number in closed:
        os.close(number)
    numbers = [number for pipe in pipes for number in pipe] + [sock.fileno() for pair in pairs for sock in pair]
    try:
        forked(lambda: not any(is_open(number) for number in numbers))
    finally:
        pairs[1][0].detach()
        for pair in pairs:
            for sock in pair:
                sock.close()
        for pipe in pipes:
            for number in pipe:
                close_private(number)
