from __future__ import annotations

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
