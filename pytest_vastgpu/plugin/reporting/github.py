"""Shows a run on GitHub: a section in the summary of the job, and annotations.

Only the process that owns the run does this, so that nothing is shown twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.options import NESTED
from pytest_vastgpu.plugin.reporting.defects import guarded
from pytest_vastgpu.plugin.reporting.defects import tell

if TYPE_CHECKING:
    from pytest_vastgpu.reporting.alive import Alive

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Variable with the path of a file to which a step adds its part of the job's summary."""
_ANNOTATES_FAILURES = "annotate_errors"
"""Under this name pytest-github-actions-annotate-failures has registered what annotates tests that fail."""


def show(config: pytest.Config) -> GitHub | None:
    """Have a run shown on GitHub. None elsewhere, and for a run within a test of another one."""
    if config.stash[NESTED] or not (os.environ.get(SUMMARY) or os.environ.get("GITHUB_ACTIONS") == "true"):
        return None
    shows = GitHub(config)
    config.pluginmanager.register(shows, "vastgpu-github")
    return shows


class GitHub:
    """Plugin object of the controller, or of the only process. It reads the environment at once: tests change that."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._summary = os.environ.get(SUMMARY, "")
        self._annotates = os.environ.get("GITHUB_ACTIONS") == "true"
        self._workspace = os.environ.get("GITHUB_WORKSPACE", "")
        self._places: dict[str, tuple[str, int]] = {}
        """File and line of each test that has not passed, by its node id as the run's files have it."""
        self._commands: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note where a test is that has not passed."""
        if report.passed or report.location is None:
            return
        with guarded(self._config, "an annotation on GitHub"):
            file, line, _ = report.location
            crash: Any = getattr(report.longrepr, "reprcrash", None)
            here = crash is not None and Path(crash.path) == self._config.rootpath / file
            self._places[sanitize.line(report.nodeid)] = (
                self._in_repository(file),
                crash.lineno if here else (line or 0) + 1,
            )

    def finish(self, directory: Path, alive: Sequence[Alive]) -> None:
        """Write the section, and decide about the annotations. The run is over.

        :param directory: The run's own.
        :param alive: What goes on costing money.
        """
        with guarded(
            self._config, f"the summary on GitHub, {self._summary}" if self._summary else "an annotation on GitHub"
        ):
            from pytest_vastgpu.reporting.github import chosen
            from pytest_vastgpu.reporting.github import troubled
            from pytest_vastgpu.reporting.github import worth_telling
            from pytest_vastgpu.reporting.run.reader import read_run

            run = read_run(directory)
            if not worth_telling(run, alive):
                return
            if self._annotates:
                others = self._config.pluginmanager.has_plugin(_ANNOTATES_FAILURES)
                tests = [test for test in troubled(run) if not (others and test.outcome == "failed")]
                self._commands = [each.command() for each in chosen(tests, alive, self._places)]
            if self._summary:
                from pytest_vastgpu.reporting.github import SUMMARY_BYTES
                from pytest_vastgpu.reporting.github import summary

                path = Path(self._summary)
                begun = path.stat().st_size if path.exists() else 0
                section = summary(run, alive, SUMMARY_BYTES - begun - 2)
                if not section:
                    text = f"the summary on GitHub, {path}, has no room for this run: it has {begun} bytes already"
                    tell(self._config, text)
                    return
                with path.open("a", encoding="utf-8") as file:
                    file.write(f"\n\n{section}" if begun else section)

    def annotate(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Annotate, below what the terminal shows of the run."""
        commands, self._commands = self._commands, []
        for command in commands:
            terminalreporter.write_line(command)

    def pytest_unconfigure(self) -> None:
        """Annotate where pytest writes nothing on the terminal."""
        for command in self._commands:
            sys.stderr.write(f"{command}\n")

    def _in_repository(self, file: str) -> str:
        """A test's file, relative to the root of the repository where it is in it."""
        path = self._config.rootpath / file
        workspace = Path(self._workspace)
        return str(path.relative_to(workspace)) if self._workspace and path.is_relative_to(workspace) else file
