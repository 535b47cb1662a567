"""From *reachable* to *checked*: what was sold is there, and the dead man's switch is armed or known to be absent."""

from __future__ import annotations

from pytest_vastgpu.hostcheck import check
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.deadman import DeadmanState
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LOOK_AGAIN_S = 0.5
"""How late it is noticed that there is no more reason to wait."""


def read_host(context: BringUpContext) -> HostFacts:
    """What the host says of itself.

    :raises ConnectFailed: if the instance can no longer be reached.
    """
    return check.parse(context.rental.connected.run(check.SCRIPT, timeout_s=check.TIMEOUT_S).stdout)


def check_host(context: BringUpContext) -> DeadmanState:
    """Compare that with what was sold, then wait until it is known how the switch is. Nothing is begun before.

    :raises AttemptFailed: with the verdict.
    """
    rental = context.rental
    verdict = check.judge(rental.offer, rental.workload, rental.host_facts)
    if verdict is not None:
        raise AttemptFailed(verdict)
    heartbeat = rental.beating
    while not heartbeat.known:
        context.go_on()
        context.cancel.wait(LOOK_AGAIN_S, lambda: heartbeat.known)
    return heartbeat.switch
