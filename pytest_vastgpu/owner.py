"""The part of the plugin that owns what a run rents. It exists only where, and only once, a selected test needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.collected import Collected
from pytest_vastgpu.core.secret import Environment
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.lifecycle.run import Run
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.events import Event
from pytest_vastgpu.reporting.terminal import Progress
from pytest_vastgpu.reporting.terminal import summarise
from pytest_vastgpu.signals import end_like_ctrl_c
from pytest_vastgpu.signals import not_interrupted

if TYPE_CHECKING:
    from pytest_vastgpu.options import Settings
    from pytest_vastgpu.readiness.adapter import Adapter


class Hooks:
    """The hooks of others, as plain calls. Implements :class:`pytest_vastgpu.lifecycle.run.Plugins`."""

    def __init__(self, config: pytest.Config) -> None:
        self._hook = config.hook

    def adapters(self) -> list[Adapter]:
        """All adapters that hooks bring."""
        return [adapter for found in self._hook.pytest_vastgpu_adapters() for adapter in found]

    def offers(self, offers: list[Offer], workload: Workload) -> list[Offer]:
        """The offers as the hooks left them."""
        changed = list(offers)
        self._hook.pytest_vastgpu_modify_offers(offers=changed, workload=workload)
        return changed

    def outcome(self, attempt: Attempt, workload: Workload) -> None:
        """Tell everybody."""
        self._hook.pytest_vastgpu_outcome(attempt=attempt, workload=workload)


class Owner:
    """Plugin object of the controller, or of the only process: opens the run, strikes tests off, ends it.

    :param distributed: Whether xdist workers run the tests.
    """

    def __init__(self, config: pytest.Config, settings: Settings, *, distributed: bool) -> None:
        terms = f"this run may cost {settings.budget:g} USD at most (--vast-budget, {settings.sources['budget']})"
        progress = Progress(config, own_thread=distributed, terms=terms)
        config.pluginmanager.register(progress, "vastgpu-progress")
        config.add_cleanup(progress.close)
        self._told: list[str] = []
        self._failures_left: int = config.getoption("maxfail", 0) if distributed else 0
        config.add_cleanup(end_like_ctrl_c())
        try:
            self.run = Run.open(settings, Environment(os.environ), Hooks(config), progress.tell, progress.pump)
        except VastGpuError as error:
            raise pytest.UsageError(f"vastgpu: {error}") from error
        self.broker = self.run.broker
        self._progress = progress
        config.add_cleanup(self._last_words)
        # A net below pytest_sessionfinish: runs also when a second Ctrl-C breaks that off.
        config.add_cleanup(self._give_back)

    def expect(self, collected: Collected, workers: int) -> None:
        """Learn what the selected tests need, and begin to rent it.

        :param workers: How many tests run at a time.
        """
        try:
            self.broker.expect(collected.tests, workers)
        except VastGpuError as error:
            raise pytest.UsageError(f"vastgpu: {error}") from error

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over, here or in a worker."""
        self.broker.finished(nodeid)
        self._progress.pump()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After so many failures xdist ends the run, but first waits for its workers: they shall not wait in turn."""
        if report.failed and self._failures_left:
            self._failures_left -= 1
            if not self._failures_left:
                self.broker.call_off()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """A test was the end of its worker: it is over, too."""
        self.broker.crashed(crashitem)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Whoever interrupts a run wants it to be over; that ``-x`` ends one under xdist is called so, too.

        Both pytest and xdist have an exception of that name, for ends that nobody has asked for just then.
        """
        if type(excinfo.value).__name__ != pytest.Session.Interrupted.__name__:
            self.run.keeper.forbid()

    # The innermost wrapper: after xdist and the fixtures are done, before the terminal writes its summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Give everything back when all workers and fixtures are done."""
        try:
            return (yield)
        finally:
            self._give_back()
            self._progress.close()
            if self.broker.problems and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _give_back(self) -> None:
        text = "still giving instances back, so that nothing goes on costing money; please wait"
        with not_interrupted(lambda: self._progress.tell(Event("", None, text))):
            self.run.close()

    def _last_words(self) -> None:
        """After an internal error, for one, pytest writes no summary: what is left is told all the same."""
        for problem in self.broker.problems:
            if problem not in self._told:
                sys.stderr.write(f"vastgpu: STILL RUNNING: {problem}\n")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, what is kept, and what could not be destroyed."""
        self._told = list(self.broker.problems)
        summarise(
            terminalreporter, self.broker.books(), self.broker.problems, self.run.costs.path, self.run.keeper.kept
        )
