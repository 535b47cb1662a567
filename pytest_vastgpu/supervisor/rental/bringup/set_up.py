"""Before the server is started: brings the workload's files, and runs its setup command."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable
from collections.abc import Mapping

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.files import contents
from pytest_vastgpu.servers.files import packed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.supervisor.rental.bringup.connect import check_ran
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LIMIT_S = 60.0
"""Time limit to bring files, beside that of their size."""
SLOWEST_BYTES_S = 100_000
"""Files may travel as slowly as this."""
TELL_EVERY_S = 2.0
"""Shortest time between two lines of a setup command's output that are shown."""
AGAIN_S = 0.5
"""Pause before the connection is used again after it broke."""
LINES = 400
"""Most lines of a setup command's output that are kept for the report of its failure."""


def bring(connection: Connection, workload: Workload, before: Iterable[str] = ()) -> dict[str, str]:
    """Bring the workload's files in one stream; returns a digest of each, by name.

    :param before: The files that were brought for the server before; those that do not come again are removed.
    :raises AttemptFailed: if they can no longer be read here, cannot be written there, or take too long.
    :raises ConnectFailed: if the connection broke.
    """
    try:
        archive = packed(workload.files)
    except ConfigurationError as error:
        raise _fatal("files_unreadable", str(error), "leave the files where they are while tests run") from error
    brought = contents(archive)
    if gone := sorted(set(before) - brought.keys()):
        names = b"".join(os.fsencode(name) + b"\0" for name in gone)
        check_ran(connection.run(job.REMOVE, timeout_s=LIMIT_S, stdin=names), connection)
    if not workload.files:
        return brought
    limit_s = LIMIT_S + len(archive) / SLOWEST_BYTES_S
    sent = connection.run(job.UNPACK, timeout_s=limit_s, stdin=archive, name="write_files")
    result = check_ran(sent, connection)
    if result.failure is ProbeFailure.TIMEOUT:  # our own uplink may be as slow
        text = f"{len(archive) / 1e6:.1f} MB of files did not arrive within {limit_s:.0f} s"
        remedy = "bring less, or have setup= download it"
        raise AttemptFailed(Verdict(FailureClass.UNKNOWN, "files_too_slow", text, remedy))
    if result.exit_code == 127:
        raise _fatal("tar_missing", result.stderr.strip(), "name an image that has tar, or bring no files")
    if not result.ok:
        evidence = result.stderr.strip() or f"files could not be written: {result.failure.value}"
        remedy = "another host would do; this one cannot write files"
        raise AttemptFailed(Verdict(FailureClass.INFRA_FATAL, "cannot_write_files", evidence, remedy))
    return brought


class _Output:
    """What the setup command has printed, and its end."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self.lines: deque[str] = deque(maxlen=LINES)
        self.count = 0
        """How many lines were received."""
        self.code: int | None = None
        self.over = False
        """Whether the stream has ended. Without a code the connection broke, and the command goes on."""

    def take(self, line: str) -> None:
        self.lines.append(line)
        self.count += 1

    def end(self, code: int | None) -> None:
        self.code, self.over = code, True
        self._cancel.nudge()

    @property
    def last(self) -> str:
        return next((line for line in reversed(self.lines) if line.strip()), "it printed nothing")


def set_up(context: BringUpContext, files: Mapping[str, str]) -> None:
    """Run the setup command, and show its output as it arrives.

    It runs once on an instance, and once more where it, the files or the workload's environment have changed. The
    command outlives a connection that breaks.

    :param files: Digests of the files that were brought, by name.

    :raises AttemptFailed: if it fails, or takes longer than the workload's ``setup_s``.
    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental, workload, cancel = context.rental, context.rental.workload, context.cancel
    output = _Output(cancel)
    ends = context.services.clock.monotonic() + workload.setup_s
    depends_on = json.dumps([workload.setup, workload.env, sorted(files.items())])
    key = hashlib.sha256(depends_on.encode()).hexdigest()[:32]
    rental.tell(f"setup: {workload.setup}")
    while output.code is None:
        if output.over:
            cancel.wait(AGAIN_S)
        output.over = False
        stream = rental.connected.connection().stream(job.setup_command(output.count, key), output.take, output.end)
        try:
            _follow(context, output, ends)
        finally:
            stream.hang_up()
            rental.printed("\n".join(output.lines))
    if output.code:
        evidence = f"the setup command ended with exit code {output.code}: {output.last}"
        raise _fatal("setup_failed", evidence, f"mend it; it is {workload.setup!r}")
    rental.printed("")


def _follow(context: BringUpContext, output: _Output, ends: float) -> None:
    """Show the output until the stream ends.

    :raises AttemptFailed: at the end of the command's time.
    """
    clock, told = context.services.clock, output.count
    while not output.over:
        context.go_on()
        left = ends - clock.monotonic()
        if left <= 0:
            text = f"the setup command takes longer than {context.rental.workload.setup_s:g} s: {output.last}"
            remedy = "give it longer with setup_s, or have it do less"
            raise AttemptFailed(Verdict(FailureClass.UNKNOWN, "setup_timeout", text, remedy))
        newest = f": {output.last}" if output.lines else ""
        context.rental.shows(f"setup{newest}", "setup window", context.rental.workload.setup_s, left)
        context.cancel.wait(min(TELL_EVERY_S, left), lambda: output.over)
        if output.count > told:
            told = output.count
            context.rental.tell(f"setup: {output.last}")


def _fatal(reason: str, evidence: str, remedy: str) -> AttemptFailed:
    return AttemptFailed(Verdict(FailureClass.WORKLOAD_FATAL, reason, evidence, remedy))
