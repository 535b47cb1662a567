"""From *checked* to *warming*: writes the server's files, and starts it."""

from __future__ import annotations

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.ssh.base import TransferFailed
from pytest_vastgpu.supervisor.rental.bringup.beside import has_begun
from pytest_vastgpu.supervisor.rental.bringup.bring import bring
from pytest_vastgpu.supervisor.rental.bringup.connect import check_ran
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.set_up import set_up
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.job import Launched
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LIMIT_S = 30.0
"""Time limit of each command here: they make folders and start a process in the background."""


def launch(context: BringUpContext) -> Launched:
    """Start the rental's server; what is left of an earlier start is ended.

    :raises AttemptFailed: if the host can neither write files nor start processes, its login runs no command, or the
        workload's setup fails.
    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental, adapter = context.rental, context.adapter
    workload = rental.workload
    start = adapter.launch(workload, rental.api_key)
    headers = dict(adapter.headers(workload, rental.api_key))
    if rental.folder == job.BESIDE and has_begun(context):
        return Launched(start, headers)
    connection = rental.connected.connection()
    made = check_ran(connection.run(job.MAKE_FOLDERS, timeout_s=LIMIT_S), connection)
    host = "0.0.0.0" if context.services.settings.expose else "127.0.0.1"  # noqa: S104 - asked for by --vast-expose
    try:
        env, folder = dict(workload.env), rental.folder
        for name, text in job.files_of(start, rental.api_key, host, env, workload.setup, folder).items():
            connection.write_file(f"{folder}/{name}", text.encode())
    except TransferFailed as failed:
        check_ran(failed.result, connection)
        raise _cannot_start(made.stderr or str(failed)) from failed
    if folder == job.HOME:  # a second server has the files and the setup of the first one
        bring(context)
        if workload.setup:
            set_up(context)
    # Where the connection breaks, the server may have been started or not. It is started again, which ends an earlier
    # start; its log tells nothing, since it may be that of the server before.
    started = check_ran(connection.run(job.start(folder), timeout_s=LIMIT_S), connection)
    if not started.ok:
        raise _cannot_start(started.stderr or f"exit code {started.exit_code}")
    return Launched(start, headers)


def _cannot_start(evidence: str) -> AttemptFailed:
    remedy = "another host would do; this one can neither write files nor start processes"
    return AttemptFailed(Verdict(FailureClass.INFRA_FATAL, "cannot_start_processes", evidence, remedy))
