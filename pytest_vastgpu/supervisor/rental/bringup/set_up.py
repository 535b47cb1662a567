"""Before the server is started: runs the workload's setup command."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

TELL_EVERY_S = 2.0
"""Shortest time between two lines of a setup command's output that are shown."""
TOLD_AT_ONCE = 40
"""Most lines that are shown then for a host for tests, whose user follows its set-up; of a server's, the last one."""
AGAIN_S = 0.5
"""Pause before the connection is used again after it broke."""
LINES = 400
"""Most lines of a setup command's output that are kept for the report of its failure."""


class _Output:
    """What the setup command has printed, and its end."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self.lines: deque[str] = deque(maxlen=LINES)
        self._fresh: deque[str] = deque(maxlen=LINES)
        self.count = 0
        """How many lines were received."""
        self.code: int | None = None
        self.over = False
        """Whether the stream has ended. Without a code the connection broke, and the command goes on."""

    def take(self, line: str) -> None:
        self._fresh.append(line)
        self.lines.append(line)
        self.count += 1

    def end(self, code: int | None) -> None:
        self.code, self.over = code, True
        self._cancel.nudge()

    def fresh(self) -> list[str]:
        """The lines since the last call."""
        return [self._fresh.popleft() for _ in range(len(self._fresh))]

    @property
    def last(self) -> str:
        return next((line for line in reversed(self.lines) if line.strip()), "it printed nothing")


def set_up(context: BringUpContext) -> None:
    """Run the setup command, and show its output as it arrives.

    It runs once on an instance, and once more where it, the files or the workload's environment have changed. The
    command outlives a connection that breaks.

    :raises AttemptFailed: if it fails, or takes longer than the workload's ``setup_s``.
    :raises ConnectFailed: if the instance can no longer be reached.
    """
    rental, workload, cancel = context.rental, context.rental.workload, context.cancel
    output = _Output(cancel)
    ends = context.services.clock.monotonic() + workload.setup_s
    key = depends_on(workload, {name: brought.digest for name, brought in rental.files.items()})
    if key == rental.set_up_with:
        return
    rental.sets_up("")
    rental.tell(title(workload.setup))
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
        raise AttemptFailed(verdict(workload, output.code, output.lines))
    rental.sets_up(key)
    rental.printed("")


def shortened(lines: Sequence[str]) -> list[str]:
    """Lines for people: of very many the last ones, and how many are left out. Pure."""
    shown = lines[-TOLD_AT_ONCE:]
    more = [f"… {count(len(lines) - len(shown), 'line')} more"] if len(lines) > len(shown) else []
    return [*more, *(line for line in shown if line.strip())]


def title(setup: str) -> str:
    """A setup command, for people: its first line, if that is a comment. Pure."""
    first = setup.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else f"setup: {setup}"


def depends_on(workload: Workload, digests: Mapping[str, str]) -> str:
    """A key of all that a setup command depends on: another key, and it runs once more. Pure.

    :param digests: Of the files that were brought, by name.
    """
    uses = workload.setup_uses or ("*",)
    used = sorted(pair for pair in digests.items() if any(fnmatchcase(pair[0], pattern) for pattern in uses))
    return hashlib.sha256(json.dumps([workload.setup, workload.env, used]).encode()).hexdigest()[:32]


def verdict(workload: Workload, code: int, lines: Sequence[str]) -> Verdict:
    """Whose fault it is that a setup command has failed: the host's only where a line says so. Pure."""
    log = "\n".join(lines)
    found = classify(log, channel=Channel.SERVER_LOG, context=f"gpus={workload.gpus}", exit_code=code)
    if found.failure_class in {FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE}:
        return found
    evidence = f"the setup command ended with exit code {code}: {decisive(lines)}"
    what = title(workload.setup)
    remedy = f"mend it; it is {what!r}"
    if workload.adapter == HOST:
        what = what.removeprefix("environment: ")
        remedy = f"mend what it needs, or say another command with --vast-setup; it is {what!r}"
    return Verdict(FailureClass.WORKLOAD_FATAL, "setup_failed", evidence, remedy)


def decisive(lines: Sequence[str]) -> str:
    """The line that says why a command has failed: the last one that calls itself an error, with what explains it."""
    said = [line.strip() for line in lines if line.strip()]
    begins = next((at for at in range(len(said) - 1, -1, -1) if _ERROR.match(said[at])), None)
    if begins is None:
        return said[-1] if said else "it printed nothing"
    explained = itertools.takewhile(_EXPLAINS.match, said[begins + 1 :])
    return " ".join([said[begins], *itertools.islice(explained, MOST_EXPLAINED)])


_ERROR = re.compile(r"(?:[^\w\s] |error\b|ERROR\b|fatal\b|E: |\w*(?:Error|Exception):|.*\berror:)")
_EXPLAINS = re.compile(r"(?:[╰├│]|Caused by:|[a-z(]|hint:)")
MOST_EXPLAINED = 4
"""Most lines after the one that says that something is wrong."""


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
            fresh = output.fresh()
            for line in shortened(fresh) if context.rental.workload.adapter == HOST else [output.last]:
                context.rental.tell(f"setup: {line}")
