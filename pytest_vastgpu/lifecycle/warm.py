"""From *warming* to ready: the server is looked at until its adapter has decided."""

from __future__ import annotations

import time

from pytest_vastgpu.lifecycle import decide
from pytest_vastgpu.lifecycle import serverjob
from pytest_vastgpu.lifecycle.effort import Effort
from pytest_vastgpu.lifecycle.rental import LOG_KEEP_CHARS
from pytest_vastgpu.lifecycle.rental import AttemptFailed
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Progress
from pytest_vastgpu.readiness.adapter import Failed
from pytest_vastgpu.readiness.adapter import Observation
from pytest_vastgpu.readiness.adapter import Ready
from pytest_vastgpu.reporting import artifacts

WARM_POLL_S = 0.1
"""Between two looks at a warming server; a look costs a few milliseconds on the instance."""
WARM_POLL_SLOW_S = 1.0
"""The same once it has been warming for a minute."""


def warm(effort: Effort) -> None:
    """Wait until the launched server is ready.

    :raises AttemptFailed: with the verdict.
    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental = effort.rental
    window = rental.workload.warmup_s or effort.adapter.warmup_s
    started = time.monotonic()
    moves = [decide.Moved(0.0, Progress("launched"))]
    probes = effort.adapter.probes(rental.workload)
    env = {"VASTGPU_API_KEY": rental.api_key}
    offset = 0
    while True:
        effort.go_on()
        age = time.monotonic() - started
        results = rental.connected.probe_all([*probes, Probe("_server", serverjob.look_command(offset))], env)
        look = results.pop("_server")
        state = serverjob.parse_look(look.stdout, offset)
        if state is not None:
            offset = state.next_offset
            rental.log = artifacts.bounded(rental.log + state.log, LOG_KEEP_CHARS)
        seen = Observation(results, rental.log, state.exit_code if state else None, age)
        found = effort.adapter.assess(rental.workload, seen)
        if isinstance(found, Ready):
            return
        if isinstance(found, Failed):
            raise AttemptFailed(found.verdict)
        if found.progress != moves[-1].progress:
            moves.append(decide.Moved(age, found.progress))
            rental.tell(f"warming: {found.progress}")
        step = decide.warm(moves, age, window)
        if isinstance(step, decide.GiveUp):
            raise AttemptFailed(step.verdict)
        effort.patience.wait(WARM_POLL_S if age < 60 else WARM_POLL_SLOW_S)
