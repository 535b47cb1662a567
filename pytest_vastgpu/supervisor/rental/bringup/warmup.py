"""While *warming*: monitors the server until its adapter calls it ready or failed."""

from __future__ import annotations

from contextlib import closing

from pytest_vastgpu.model import Progress
from pytest_vastgpu.reporting.waiting import stage
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.standing_still import StandingStill
from pytest_vastgpu.servers.system_probes import LISTENERS
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.rental import LOG_KEEP_CHARS
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.monitor import ServerMonitor
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LOOK_AGAIN_S = 0.5
"""Without updates, pause between two checks whether time has run out."""
LOOK_AROUND_S = 60.0
"""Time limit of asking the server where it was not expected."""
JUDGING_SHARE = 0.2
"""Largest share of the time that the adapter's judging of a steadily growing log may take."""


def warm_up(context: BringUpContext) -> ServerMonitor:
    """Wait until the launched server is ready; returns the monitor for the time in which it is in use.

    :raises AttemptFailed: with the verdict.
    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental, clock = context.rental, context.services.clock
    window = rental.workload.warmup_s or context.adapter.warmup_s
    probes = context.adapter.probes(rental.workload)
    if all(probe.name != LISTENERS.name for probe in probes):
        probes = (*probes, LISTENERS)
    standing = StandingStill(rental.workload, context.services.timeouts, rental.others or ())
    started = clock.monotonic()
    samples = [give_up.ProgressSample(0.0, Progress("launched"))]
    env = {job.API_KEY: rental.api_key}
    told = ""
    watched = rental.connected, probes, env, LOG_KEEP_CHARS, context.cancel, clock, rental.folder
    with closing(ServerMonitor(*watched)) as monitor:
        while True:
            context.go_on()
            monitor.keep_up()
            age = clock.monotonic() - started
            seen = monitor.observe(age)
            rental.printed(seen.log)
            found, judging_s = _assessed(context, seen)
            # The log from before the first answer may say that the server runs without the rented GPU.
            if isinstance(found, Ready) and rental.workload.gpus and monitor.catch_up():
                seen = monitor.observe(age)
                rental.printed(seen.log)
                found, again_s = _assessed(context, seen)
                judging_s += again_s
            started += judging_s  # the adapter's own time does not count against the server
            if isinstance(found, Ready):
                return monitor.without_probes()
            if isinstance(found, Failed):
                raise AttemptFailed(found.verdict)
            standing.take(seen, found.progress)
            if question := standing.to_ask():
                standing.answered(rental.connected.run(question, LOOK_AROUND_S, env=env).stdout)
            if settled := standing.verdict():
                raise AttemptFailed(settled)
            if found.progress != samples[-1].progress:
                samples.append(give_up.ProgressSample(age, found.progress))
                rental.tell(f"warming: {found.progress}")
            if monitor.trouble != told:
                told = monitor.trouble
                rental.tell(f"warming; watching the server is hard: {told}")
            left_s = give_up.warmup_left_s(samples, age, window)
            rental.shows(stage(found.progress), "warm-up window", window, left_s)
            step = give_up.judge_warmup(samples, age, window, str(standing))
            if isinstance(step, give_up.GiveUp):
                raise AttemptFailed(standing.verdict(out_of_time=True) or step.verdict)
            monitor.wait(judging_s / JUDGING_SHARE, LOOK_AGAIN_S)


def _assessed(context: BringUpContext, seen: Observation) -> tuple[Readiness, float]:
    """The adapter's answer, and the seconds that it took."""
    clock = context.services.clock
    asked = clock.monotonic()
    found = context.adapter.assess(context.rental.workload, seen)
    return found, clock.monotonic() - asked
