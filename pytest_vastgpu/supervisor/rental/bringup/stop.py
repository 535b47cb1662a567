"""From *ready* to *warming*, where the server is replaced: ends it, and waits for the memory of its GPUs."""

from __future__ import annotations

from pytest_vastgpu.client.calls import GPU_MEMORY_HELD
from pytest_vastgpu.client.calls import SERVER_NOT_STOPPED
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.supervisor.rental.bringup.connect import check_ran
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.server import gpu_memory
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LIMIT_S = 15.0
"""Time limit of the command that ends the server, beside the time that the server is given."""
LOOK_AGAIN_S = 0.5
"""Pause between two looks at the GPUs' memory."""
_ANOTHER = "another instance would do; see what the tests leave running on this one"


def stop(context: BringUpContext) -> None:
    """End the server with all its processes; one that has ended already may have left some.

    No machine is blamed for what does not end, since tests have used it.

    :raises AttemptFailed: if processes live on, or a GPU's memory is not given back.
    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental, within_s = context.rental, context.services.timeouts.stop_s
    connection = rental.connected.connection()
    key = f"{rental.api_key}\n".encode()
    told = check_ran(connection.run(job.stop(within_s), timeout_s=within_s + LIMIT_S, stdin=key), connection)
    if told.stdout.startswith(job.LEFT):
        text = f"processes {told.stdout.removeprefix(job.LEFT).strip()} of the server live on after SIGKILL"
        raise AttemptFailed(Verdict(FailureClass.UNKNOWN, SERVER_NOT_STOPPED, text, _ANOTHER))
    if rental.workload.gpus:
        _free_memory(context)


def _free_memory(context: BringUpContext) -> None:
    """Wait until no GPU has too much memory in use for the next start."""
    rental, services = context.rental, context.services
    limit_s = services.timeouts.gpu_memory_s
    deadline = Deadline.after(limit_s, services.clock)
    env = {job.API_KEY: rental.api_key}
    while True:
        connection = rental.connected.connection()
        # Whose it is matters only where it stays.
        script = gpu_memory.SCRIPT if deadline.passed else gpu_memory.QUICK_SCRIPT
        answer = connection.run(script, timeout_s=gpu_memory.LIMIT_S, env=env)
        seen = gpu_memory.parse(check_ran(answer, connection).stdout)
        if seen is None or not (held := seen.held()):
            return
        if script is gpu_memory.SCRIPT:
            text = f"{limit_s:g} s after the server was stopped, {held}"
            raise AttemptFailed(Verdict(FailureClass.UNKNOWN, GPU_MEMORY_HELD, text, _ANOTHER))
        context.go_on()
        context.cancel.wait(LOOK_AGAIN_S)
