"""Which tests have used an instance, or failed for want of one, and what came of them: the writer of ``tests.json``.

See :mod:`pytest_vastgpu.reporting.tests_file`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.files import write_whole
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.reporting.defects import guarded
from pytest_vastgpu.plugin.reporting.explained import explained_of
from pytest_vastgpu.reporting.event_facts import verdict_facts
from pytest_vastgpu.reporting.tests_file import NAME
from pytest_vastgpu.reporting.tests_file import VERSION

MESSAGE_CHARS = 4000
"""Most characters of why a test has not passed."""
_SHARE = 20
"""At most this part of the time is spent on writing: a file of many tests is not written after each of them."""
_PHASES = ("setup", "call", "teardown")
"""The report of a test that was the end of its worker is of none of them."""
_RERUN: Any = "rerun"
"""The outcome that plugins give to the last report of a try which another one follows."""
_OUTCOMES = ("passed", "xfailed", "xpassed", "skipped", "failed", "error")
"""Of the phases of a test the last one of these counts."""


@dataclass
class _Record:
    """One test."""

    outcome: str = ""
    when: str = ""
    started: float = 0.0
    duration_s: float = 0.0
    tries: int = 0
    worker: str = ""
    host: str = ""
    instances: list[int] = field(default_factory=list)
    message: str = ""
    verdict: Mapping[str, object] | None = None
    attempts: int = 0
    artifacts: str = ""
    _over: bool = False
    """Whether the last try is; another may follow."""
    counts: bool = False
    """Whether it has used an instance, or failed for want of one."""

    def take(self, report: pytest.TestReport, now: float) -> None:
        """Take the report of a phase."""
        if self._over or not self.tries:
            self.tries += 1
            self.outcome, self.when, self.message, self.verdict, self.duration_s = "", "", "", None, 0.0
            self.started = getattr(report, "start", now - report.duration)
        self._over = report.when not in ("setup", "call") or report.outcome == _RERUN
        self.duration_s += report.duration
        self._take_place(report, now)
        found = _outcome(report)
        rank, before = _OUTCOMES.index(found), _OUTCOMES.index(self.outcome or "passed")
        # Of failures alike the first one is told: pytest's last one of a test says only how many subtests have failed.
        if (rank > before or (rank == before and not self.message)) and (
            report.when != "teardown" or found != "passed"
        ):
            self.outcome, self.when = found, report.when if report.when in _PHASES else ""
            self.message = "" if found == "passed" else _message(report)
        ids = [value for name, value in report.user_properties if name == "vast_instance" and isinstance(value, int)]
        self.instances = list(dict.fromkeys([*self.instances, *ids]))
        kept_in = [str(value) for name, value in report.user_properties if name == "vast_artifacts"]
        self.artifacts = next(reversed(kept_in), self.artifacts)
        if (explained := explained_of(report)) is not None:
            self.verdict, self.attempts = verdict_facts(explained.verdict), explained.attempts
        self.counts = self.counts or bool(ids or explained or self.host)

    def _take_place(self, report: pytest.TestReport, now: float) -> None:
        self.worker = _worker(report) or self.worker
        rented = getattr(getattr(report, "node", None), "rented", None)
        if rented is not None:
            self.host = str(rented.name)
            self.started = now - self.duration_s  # by this machine's clock: that of a host may be another

    def row(self, test: str) -> dict[str, object]:
        """Its object in the file."""
        values = {name: value for name, value in vars(self).items() if name not in ("counts", "_over")}
        if self.outcome == "passed" and not self._over:  # so far only: it is being used, or the run was interrupted
            values |= {"outcome": "", "when": ""}
        return {"test": test, **values, "started": round(self.started, 3), "duration_s": round(self.duration_s, 3)}


def _worker(report: pytest.TestReport) -> str:
    node: Any = getattr(report, "node", None)
    return str(node.gateway.id) if node is not None else ""


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed:
        return "error" if report.when in ("setup", "teardown") else "failed"  # as pytest counts them
    return "skipped" if report.skipped else "passed"


def _message(report: pytest.TestReport) -> str:
    """Why a test has not passed, without its traceback."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if isinstance(report.longrepr, tuple):
        text = str(report.longrepr[2])
    else:
        text = str(crash.message if crash is not None else report.longrepr or "")
    # Secrets go first: a cut could split one.
    return sanitize.block(text[: 64 * MESSAGE_CHARS])[:MESSAGE_CHARS]


class TestRecords:
    """Plugin object of the controller, or of the only process: keeps ``tests.json`` up to date.

    :param directory: The run's own.
    :param in_each: Whether every worker runs every test, which then has an entry for each of them.
    """

    __test__ = False

    def __init__(self, config: pytest.Config, directory: Path, *, in_each: bool = False) -> None:
        self._config = config
        self._in_each = in_each
        self.directory = directory
        command = shlex.join(["pytest", *map(str, config.invocation_params.args)])
        self._head: dict[str, object] = {
            "version": VERSION,
            "run": directory.name,
            "command": sanitize.line(command),
            "started": round(SYSTEM_CLOCK.time(), 3),
        }
        self._end: dict[str, object] = {"ended": 0.0, "over": False, "exit_status": None}
        self._records: dict[tuple[str, str], _Record] = {}
        """By test, and by worker where each runs it."""
        self._next_at = 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the report of a phase of a test; after the last one, write."""
        with guarded(self._config, f"the record of the tests in {self.directory}"):
            key = report.nodeid, _worker(report) if self._in_each else ""
            record = self._records.setdefault(key, _Record())
            record.take(report, SYSTEM_CLOCK.time())
            over = report.when not in ("setup", "call")
            if over and record.counts and SYSTEM_CLOCK.monotonic() >= self._next_at:
                self.write()
            elif over and not record.counts:
                del self._records[key]

    def end(self, exit_status: int) -> None:
        """The run is over: write what it has come to."""
        with guarded(self._config, f"the record of the tests in {self.directory}"):
            self._end = {"ended": round(SYSTEM_CLOCK.time(), 3), "over": True, "exit_status": exit_status}
            self.write()

    def write(self) -> None:
        """Write the file.

        :raises OSError: if that fails.
        """
        began = SYSTEM_CLOCK.monotonic()
        tests = [record.row(test) for (test, _), record in self._records.items() if record.counts]
        head = {**self._head, "written": round(SYSTEM_CLOCK.time(), 3), **self._end}
        write_whole(self.directory / NAME, json.dumps({**head, "tests": sanitize.clean(tests)}, indent=1) + "\n")
        now = SYSTEM_CLOCK.monotonic()
        self._next_at = now + _SHARE * (now - began)
