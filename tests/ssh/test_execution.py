from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import paramiko
import pytest

from pytest_vastgpu.ssh import execution


def test_a_command_that_has_ended_before_it_is_looked_at_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing arrives after the end, so that nothing would wake whoever waits."""
    channel = paramiko.Channel(0)
    channel.in_buffer.feed(b"all that it printed")
    channel.in_stderr_buffer.feed(b"and complained")
    channel.exit_status = 0
    channel.status_event.set()
    channel.eof_received = True
    channel.in_buffer.close()
    channel.in_stderr_buffer.close()
    monkeypatch.setattr(execution._Arrival, "wait", lambda self, seconds: pytest.fail("it waits"))
    told: list[bytes] = []
    assert execution._read(channel, told.append, told.append) == execution.End(0)
    assert told == [b"all that it printed", b"and complained"]


def channel_that_ended(printed: bytes) -> paramiko.Channel:
    """One whose exit status has arrived, and whose output nobody has read yet."""
    channel = paramiko.Channel(0)
    channel.in_buffer.feed(printed)
    channel.exit_status = 0
    channel.status_event.set()
    return channel


def test_what_has_arrived_is_read_whole_however_long_that_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status may come long before the last of the output, and this process may not run meanwhile."""
    printed = b"x" * (3 << 20) + b"last"
    channel = channel_that_ended(printed)
    minutes = count(0, 60)
    monkeypatch.setattr(execution, "time", SimpleNamespace(monotonic=lambda: float(next(minutes))))
    told = bytearray()

    def take(data: bytes) -> None:
        told.extend(data)
        if len(told) == len(printed):
            channel.eof_received = True

    assert execution._read(channel, take, lambda _: None) == execution.End(0)
    assert told == printed


def test_what_never_ends_after_the_command_has_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_REST_LIMIT", 1000)
    channel = channel_that_ended(b"x")
    told = bytearray()

    def take(data: bytes) -> None:
        told.extend(data)
        channel.in_buffer.feed(b"x" * 100)

    assert execution._read(channel, take, lambda _: None) == execution.End(0)
    assert 1000 < len(told) < 1200
