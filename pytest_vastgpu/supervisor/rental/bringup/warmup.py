"""From *warming* to ready: the server is watched until its adapter has decided."""

from __future__ import annotations

import time
from contextlib import closing

from pytest_vastgpu.model import Progress
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.supervisor.rental import policy
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.rental import LOG_KEEP_CHARS
from pytest_vastgpu.supervisor.rental.rental import AttemptFailed
from pytest_vastgpu.supervisor.rental.server_monitor import ServerMonitor

PULSE_S = 0.5
"""Without news, it is looked that often whether time has run out."""
JUDGING_SHARE = 0.2
"""At most that share of the time goes into judging a log that grows and grows."""


def warm(effort: BringUpContext) -> None:
    """Wait until the launched server is ready.

    :raises AttemptFailed: with the verdict.
    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental = effort.rental
    window = rental.workload.warmup_s or effort.adapter.warmup_s
    probes = effort.adapter.probes(rental.workload)
    started = time.monotonic()
    moves = [policy.ProgressSample(0.0, Progress("launched"))]
    env = {"VASTGPU_API_KEY": rental.api_key}
    told = ""
    with closing(ServerMonitor(rental.connected, probes, env, LOG_KEEP_CHARS, effort.patience)) as watch:
        while True:
            effort.go_on()
            watch.keep_up()
            age = time.monotonic() - started
            seen = watch.observe(age)
            rental.log = seen.log
            found, judging_s = _assessed(effort, seen)
            # What it printed before it answered may say that it serves without the GPU that was rented.
            if isinstance(found, Ready) and rental.workload.gpus and watch.catch_up():
                seen = watch.observe(age)
                rental.log = seen.log
                found, again_s = _assessed(effort, seen)
                judging_s += again_s
            started += judging_s  # how long somebody takes to answer is not the server's affair
            if isinstance(found, Ready):
                return
            if isinstance(found, Failed):
                raise AttemptFailed(found.verdict)
            if found.progress != moves[-1].progress:
                moves.append(policy.ProgressSample(age, found.progress))
                rental.tell(f"warming: {found.progress}")
            if watch.trouble != told:
                told = watch.trouble
                rental.tell(f"warming; watching the server is hard: {told}")
            step = policy.warm(moves, age, window)
            if isinstance(step, policy.GiveUp):
                raise AttemptFailed(step.verdict)
            watch.wait(judging_s / JUDGING_SHARE, PULSE_S)


def _assessed(effort: BringUpContext, seen: Observation) -> tuple[Readiness, float]:
    """What the adapter says, and for how many seconds that was waited for."""
    asked = time.monotonic()
    found = effort.adapter.assess(effort.rental.workload, seen)
    return found, time.monotonic() - asked
