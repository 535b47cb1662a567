"""How a server ended that tests used, and whose fault that is."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from dataclasses import replace

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.text.layout import bounded
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation

DEAF = "server_not_listening"
"""Reason for a server whose process lives and no longer listens."""
LOG_CHARS = 200_000
"""Characters of the log in the story of a test; the middle of a longer one is cut out."""
_SHELL_CODES = {126: "it could not be executed", 127: "its program was not found"}


@dataclass(frozen=True)
class ServerEnd:
    """The end of one start of a server."""

    at: float
    """When it was noticed: epoch seconds."""
    exit_code: int | None
    """None: its process lives, but no longer listens."""
    verdict: Verdict
    log: str
    """All that it had printed; the middle of a huge log is cut out."""
    printed: int
    """Characters that it had printed."""
    stopped: str = ""
    """How we ended it, in words; empty where it ended by itself."""
    by_test: bool = False
    """Whether we did because the test that used it, alone, wanted another server there."""

    @property
    def how(self) -> str:
        """How it ended, in words that go after "it"."""
        return self.stopped or ended(self.exit_code)

    def log_since(self, mark: Mark) -> str:
        """What it had printed since a test got it."""
        return log_since(self.log, self.printed, mark)

    def fate(self, mark: Mark, then: str) -> Fate:
        """What a test learns whose server this was.

        :param mark: Where the server was when the test got it.
        :param then: What the next test gets.
        """
        after_s = self.at - mark.at
        clock = time.strftime("%H:%M:%S", time.localtime(self.at))
        when = f"at {clock}, {after_s:.1f} s after the test had got it" if after_s > 0 else f"at {clock}"
        before = "" if after_s > 0 else ", before the test got it"
        what = f"the server {self.how} {when}{before}"
        excuses = self.verdict.failure_class.blames_machine or after_s <= 0 or bool(self.stopped)
        return Fate(what, self.verdict, excuses, then, self.log_since(mark))


def log_since(log: str, printed: int, mark: Mark) -> str:
    """The part of a log that a server has printed since a test got it; the middle of a long one is cut out.

    :param printed: Characters that the server has printed in all, also where the middle of ``log`` is cut out.
    """
    count = max(0, printed - mark.log)
    return bounded(log[-count:] if count else "", LOG_CHARS)


def ended(exit_code: int | None) -> str:
    """The end of a server's process, in words: ``ended with exit code 137 (signal 9, SIGKILL)``."""
    if exit_code is None:
        return "no longer listened on its port, though its process lived,"
    text = f"ended with exit code {exit_code}"
    if exit_code in _SHELL_CODES:
        return f"{text} ({_SHELL_CODES[exit_code]})"
    try:
        return f"{text} (signal {exit_code - 128}, {signal.Signals(exit_code - 128).name})"
    except ValueError:
        return text


def judge(adapter: Adapter, workload: Workload, seen: Observation) -> Verdict:
    """The verdict on the end of a server while the instance answers.

    :param seen: With probes that ran after the end.
    """
    verdict = _asked(adapter, workload, seen)
    if workload.gpus and not verdict.failure_class.blames_machine:
        # A GPU that has gone explains any end. Of a server that lives, the adapter judges the probes, too.
        around = _asked(adapter, workload, replace(seen, log="", exit_code=None))
        if around.failure_class.blames_machine:
            return around
    return verdict


def _asked(adapter: Adapter, workload: Workload, seen: Observation) -> Verdict:
    try:
        found = adapter.assess(workload, seen)
    except HookFailed as failed:
        return Verdict(FailureClass.UNKNOWN, "adapter_failed", str(failed), "mend the adapter")
    except Cancelled:
        return Verdict(FailureClass.UNKNOWN, "not_judged", "the run is ending", "run the test again")
    if isinstance(found, Failed):
        return found.verdict
    remedy = "the log since the test's start may say why; the test may have caused it"
    if seen.exit_code is None:
        evidence = f"nothing listens on port {workload.port}, and the process is alive"
        return Verdict(FailureClass.UNKNOWN, DEAF, evidence, remedy)
    return Verdict(FailureClass.UNKNOWN, "server_exited", f"exit code {seen.exit_code}", remedy)
