"""The heartbeat over a real SSH connection to an instance of the local market."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.clock import Repeated
from pytest_vastgpu.core.clock import SystemClock
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.providers.vast.client import self_destruct
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.connector import SshConnector
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental.deadman import onstart
from pytest_vastgpu.supervisor.rental.heartbeat import Heartbeat
from tests.support.local.api import Api
from tests.support.looks import PATIENCE_S
from tests.support.looks import until

LEASE_S = 300
"""Longer than any machine stalls: an instance that hears nothing for so long ends itself."""


class Hurried(SystemClock):
    """Has heartbeats beat far more often than such a lease asks for."""

    def repeat(self, name: str, step: Callable[[], float | None], first_s: float = 0.0) -> Repeated:
        def hurried() -> float | None:
            pause_s = step()
            return None if pause_s is None else min(pause_s, 1.0)

        return super().repeat(name, hurried, first_s)


@pytest.fixture
def reconnecting() -> Iterator[ReconnectingConnection]:
    """To an instance that is armed."""
    key = load_key({}, Path("/nonexistent"))
    fleet = {"market": {"rate_limits": False}, "this_machine": True}
    with LocalMarket(fleet=fleet) as market, Api(market) as api:
        script = onstart(self_destruct(market.url), lease_s=5, boot_timeout_s=LEASE_S, lifetime_s=600)
        instance_id = api.rent(1, onstart=script, runtype="ssh_direct")
        api.http.post(f"/api/v0/instances/{instance_id}/ssh/", json={"ssh_key": key.public_line})
        row = api.becomes(instance_id, actual_status="running")
        with closing(
            ReconnectingConnection(SshConnector(key, 10.0), [SshAddress("127.0.0.1", row["ssh_port"], "proxy")])
        ) as reconnecting:
            yield reconnecting


def test_it_keeps_the_lease_going_tells_what_changes_and_has_last_words(reconnecting: ReconnectingConnection) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    heartbeat = Heartbeat(
        reconnecting, LEASE_S, Deadline.after(1000), told.put, clock=Hurried(), arm_within_s=PATIENCE_S
    )
    heartbeat.start()
    until(lambda: heartbeat.known, bool)
    assert told.get(timeout=PATIENCE_S) == "dead man's switch armed (curl)"
    assert heartbeat.switch.armed
    assert heartbeat.missing == ""
    assert not heartbeat.gave_up
    end = int(reconnecting.run("cat .vastgpu/end", 10).stdout)
    assert 700 < end - int(reconnecting.run("date +%s", 10).stdout) <= 1000

    # Commands that use up the connection's sessions do not stop the heartbeat.
    busy = [
        threading.Thread(target=reconnecting.run, args=("until [ -e .done ]; do sleep 0.1; done", 60)) for _ in range(8)
    ]
    for thread in busy:
        thread.start()
    heard = heartbeat.silent_s
    until(lambda: heartbeat.silent_s, lambda silent: silent < heard)
    until(lambda: heartbeat.silent_s, lambda silent: silent > 0.5)
    until(lambda: heartbeat.silent_s, lambda silent: silent < 0.5)
    reconnecting.connection().run("touch .done", timeout_s=PATIENCE_S, spare=True)
    for thread in busy:
        thread.join()

    with heartbeat._beating:  # one in between would make the directory anew, or fail in another way
        reconnecting.run("mv .vastgpu aside; touch .vastgpu", 10)
    assert told.get(timeout=PATIENCE_S).startswith("does not hear of us: mkdir: ")
    with heartbeat._beating:
        reconnecting.run("rm .vastgpu; mv aside .vastgpu", 10)
    assert told.get(timeout=PATIENCE_S) == "hears of us again"

    beat = heartbeat.last_words(77)
    assert beat is not None
    assert (beat.lease_s, beat.end_s, beat.switch.armed) == (77, 77, True)
    reconnecting.close()
    assert heartbeat.last_words(99) is None
    with pytest.raises(ConnectFailed, match="the connection was closed"):
        reconnecting.connection()
    assert told.empty()


@pytest.mark.slow
def test_an_instance_that_ended_itself_is_always_known_to_have_given_up(reconnecting: ReconnectingConnection) -> None:
    before = Heartbeat(reconnecting, LEASE_S, Deadline.after(1000), lambda _: None, arm_within_s=PATIENCE_S)
    before.start()
    until(lambda: before.known, bool)
    assert before.last_words(LEASE_S) is not None
    heartbeat = Heartbeat(reconnecting, 2, Deadline.after(100), lambda _: None)
    heartbeat.switch = before.switch
    time.sleep((0.9 - time.time()) % 1)  # its clock tells whole seconds: the shortest lease
    heartbeat._step()  # once: the next one might come too late
    until(lambda: reconnecting.connection_if_any(), lambda connection: connection is None)
    assert heartbeat.gave_up


class Answers:
    """Stands in for a connection: answers heartbeats as an instance whose switch says these things in turn."""

    def __init__(self, *switch: str) -> None:
        self._switch = iter(switch)
        self.ends: list[int | None] = []
        """The hard end of life in each heartbeat, in seconds from then; None: none."""

    def run(self, command: str, timeout_s: float, *, spare: bool) -> ProbeResult:
        sent = re.search(r"echo \$\(\(n\+(\d+)\)\) 1<>end", command)
        self.ends.append(int(sent[1]) if sent is not None else None)
        answer = f"1000 {1000 + LEASE_S} {1000 + (self.ends[-1] or 0)} alive {next(self._switch)}\n"
        return ProbeResult("heartbeat", ProbeFailure.NONE, 0, answer, "", 0.0)


def test_the_end_is_sent_until_the_start_script_can_no_longer_write_its_own() -> None:
    connection = Answers("starting 0", "curl 200", "curl 200")
    heartbeat = Heartbeat(cast(ReconnectingConnection, connection), LEASE_S, Deadline.after(100), lambda _: None)
    for _ in range(3):
        heartbeat._step()
    assert [end is not None for end in connection.ends] == [True, True, False]
