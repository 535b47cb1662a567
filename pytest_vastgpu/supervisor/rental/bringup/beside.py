"""Before a second server starts beside the first one: which ports are taken, and whether it was started already."""

from __future__ import annotations

from dataclasses import replace

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.servers.standing_still import listeners
from pytest_vastgpu.servers.system_probes import LISTENERS
from pytest_vastgpu.supervisor.rental.bringup.connect import check_ran
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.server import job

LIMIT_S = 15.0
"""Time limit of each command here."""
_BUSY = "gpu_busy"


def note_others(context: BringUpContext) -> None:
    """Note on which ports the first server listens, also those that nobody has declared: none is the second one's.

    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental = context.rental
    if rental.others is not None:  # noted before the connection broke; by now the second one may listen, too
        return
    connection = rental.connected.connection()
    seen = check_ran(
        connection.run(LISTENERS.command, timeout_s=LIMIT_S, env={job.API_KEY: rental.api_key}), connection
    )
    rental.has_others(frozenset(each.port for each in listeners(seen.stdout)))


def has_begun(context: BringUpContext) -> bool:
    """Whether the second server was started, and the answer to that was lost.

    Another start would not end all of it: what has left its process group cannot be told from the first server's.

    :raises ConnectFailed: if the instance can no longer be reached.
    """
    connection = context.rental.connected.connection()
    return check_ran(connection.run(job.BEGUN_BESIDE, timeout_s=LIMIT_S), connection).ok


def judged(verdict: Verdict) -> Verdict:
    """The verdict on a second server's start: who holds a GPU for himself alone is the first server."""
    if verdict.reason != _BUSY:
        return verdict
    remedy = "its GPU serves one process only, so both servers cannot use it at a time: leave together=True out"
    return replace(verdict, failure_class=FailureClass.INCOMPATIBLE, remedy=remedy)
