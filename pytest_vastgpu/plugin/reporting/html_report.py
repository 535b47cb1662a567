"""``--vast-report=FILE.html``: the page of a run; and the panel in the report of pytest-html.

Loaded only where the option is given, or pytest-html writes a report of a run that rents.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_vastgpu.core.files import write_whole
from pytest_vastgpu.plugin.reporting.defects import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

CONTROLLER = "vastgpu-controller"


class HtmlReport:
    """Plugin object of the controller, or of the only process: writes the page when the run is over.

    :param file: As given: relative to the directory in which pytest was started.
    :param source: Who has given it.
    :raises pytest.UsageError: one line, if it could not be written.
    """

    def __init__(self, config: pytest.Config, file: str, source: str) -> None:
        self._config = config
        self.path = config.invocation_params.dir / Path(file).expanduser()
        self._written = False
        if problem := _problem(self.path):
            raise pytest.UsageError(f"--vast-report={file} ({source}): {problem}")

    # Around the controller's, which was registered later: so all is given back, and in the run's files. Within that
    # of the terminal, which then writes its summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Write the page."""
        try:
            return (yield)
        finally:
            with guarded(self._config, f"the report {self.path}"):
                write_whole(self.path, self._page())
                self._written = True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where it is."""
        if self._written:
            terminalreporter.write_line(f"vastgpu: the report is {self.path}")

    def _page(self) -> str:
        from pytest_vastgpu.reporting.page.render import render
        from pytest_vastgpu.reporting.run.reader import read_run
        from pytest_vastgpu.reporting.run.report import RunReport

        controller: Any = self._config.pluginmanager.get_plugin(CONTROLLER)
        if controller is None:
            return render(RunReport("", over=True))
        return render(read_run(controller.directory), controller.alive)


class PytestHtmlPanel:
    """Plugin object of a run that rents, where pytest-html writes a report: adds a panel to it.

    :param directory: The run's own.
    :param finish: Gives everything back, and writes the run's files: pytest-html writes before that is done by itself.
    """

    def __init__(self, config: pytest.Config, directory: Path, finish: Callable[[pytest.Session], None]) -> None:
        self._config = config
        self._directory = directory
        self._finish = finish

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Add the panel above the tests."""
        with guarded(self._config, "the panel in pytest-html's report"):
            self._finish(session)
            from pytest_vastgpu.reporting.page.render import panel
            from pytest_vastgpu.reporting.run.reader import read_run

            controller: Any = self._config.pluginmanager.get_plugin(CONTROLLER)
            prefix.append(panel(read_run(self._directory), self._link(), controller.alive))

    def _link(self) -> str:
        """Where the whole page will be, from pytest-html's report."""
        report: HtmlReport | None = self._config.pluginmanager.get_plugin("vastgpu-html")
        theirs = self._config.getoption("htmlpath", None)
        if report is None or not theirs:
            return ""
        return Path(os.path.relpath(report.path, (self._config.invocation_params.dir / theirs).parent)).as_posix()


def add_panel(config: pytest.Config, directory: Path, finish: Callable[[pytest.Session], None]) -> None:
    """Have the panel in the report of pytest-html, where that writes one."""
    if config.getoption("htmlpath", None) and find_spec("jinja2"):
        config.pluginmanager.register(PytestHtmlPanel(config, directory, finish), "vastgpu-html-panel")


def _problem(path: Path) -> str:
    """Why a page could not be written to a file, in words; empty: it could."""
    if not find_spec("jinja2"):
        return "the report needs Jinja2, which is not installed: pip install 'pytest-vastgpu[report]'"
    if path.is_dir():
        return f"{path} is a directory: name a file in it, such as {path.name or 'report'}/vastgpu.html"
    if not path.parent.is_dir():
        return f"the directory {path.parent} does not exist: make it, or name a file elsewhere"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return f"{path} cannot be written: name a file elsewhere, or change its permissions"
    return ""
