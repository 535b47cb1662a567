"""From *reachable* to *checked*: compares the host with its offer, and waits for the dead man's switch."""

from __future__ import annotations

from pytest_vastgpu.hostcheck import judge
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.supervisor.rental.bringup.connect import check_ran
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.deadman import DeadmanState
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LOOK_AGAIN_S = 0.5
"""Pause between two checks whether to go on waiting."""


def read_host(context: BringUpContext) -> HostFacts:
    """Read the host's facts.

    :raises ConnectFailed: if the instance can no longer be reached.
    :raises AttemptFailed: if it runs no command.
    """
    connection = context.rental.connected.connection()
    return judge.parse(check_ran(connection.run(judge.SCRIPT, timeout_s=judge.TIMEOUT_S), connection).stdout)


def check_host(context: BringUpContext) -> DeadmanState:
    """Compare the host with its offer, then wait until the dead man's switch is armed or known to be absent.

    Bring-up launches no server before that.

    :raises AttemptFailed: with the verdict.
    """
    rental = context.rental
    verdict = judge.judge(rental.offer, rental.workload, rental.host_facts)
    if verdict is not None:
        raise AttemptFailed(verdict)
    heartbeat = rental.beating
    while not heartbeat.known:
        context.go_on()
        context.cancel.wait(LOOK_AGAIN_S, lambda: heartbeat.known)
    return heartbeat.switch
