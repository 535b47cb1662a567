"""The controller plugin: it starts the supervisor and ends it. It exists only if a selected test needs an instance."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.client.callbacks import PytestHooks
from pytest_vastgpu.client.calls import AdapterOffer
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.process import SupervisorProcess
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.adapters import adapters_of
from pytest_vastgpu.plugin.collection import hooks_of
from pytest_vastgpu.plugin.giving_back import Waits
from pytest_vastgpu.plugin.giving_back import left_by_the_dead
from pytest_vastgpu.plugin.measurements import MeasurementReport
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.options import TIMEOUTS
from pytest_vastgpu.plugin.reporting.github import show
from pytest_vastgpu.plugin.reporting.html_report import add_panel
from pytest_vastgpu.plugin.reporting.junit_log import JunitLog
from pytest_vastgpu.plugin.reporting.test_records import TestRecords
from pytest_vastgpu.plugin.signals import end_like_ctrl_c
from pytest_vastgpu.plugin.signals import not_interrupted
from pytest_vastgpu.plugin.signals import with_lines
from pytest_vastgpu.plugin.terminal import ProgressReporter
from pytest_vastgpu.plugin.terminal import summarise
from pytest_vastgpu.reporting.cost_file import NAME
from pytest_vastgpu.servers.base import kind_of

if TYPE_CHECKING:
    from pytest_vastgpu.client.listener import Listener
    from pytest_vastgpu.reporting.alive import Alive
    from pytest_vastgpu.servers.base import Adapter
    from pytest_vastgpu.settings import Settings

_log = logging.getLogger("pytest_vastgpu")


class Controller:
    """Plugin object of the controller or of the only process: starts the supervisor and ends it.

    :param collected: What this process has collected; None: a worker will report it.
    :param workers: How many tests run at the same time.
    :param in_each: Whether every worker runs every test.
    :param own_thread: Whether the main thread never waits for an instance, so that another one shows what happens.
    :param late: Whether a running test asks. A run that cannot rent then goes on, and its tests learn why.
    """

    def __init__(
        self,
        config: pytest.Config,
        listener: Listener,
        collected: Collected | None,
        *,
        workers: int = 1,
        in_each: bool = False,
        late: bool = False,
        own_thread: bool = False,
    ) -> None:
        settings: Settings = config.stash[SETTINGS]
        distributed = collected is None or own_thread
        header = [settings.header(), *(settings.every_value() if config.get_verbosity() > 0 else ())]
        self._progress = ProgressReporter(config, own_thread=distributed, header=header)
        config.pluginmanager.register(self._progress, "vastgpu-progress")
        config.add_cleanup(self._progress.close)
        self._measured = MeasurementReport(in_each=in_each)
        config.pluginmanager.register(self._measured, "vastgpu-measured")
        run = os.urandom(4).hex()
        self.directory = runs_dir() / run
        """With the files of this run."""
        self._records = TestRecords(config, self.directory, in_each=in_each)
        config.pluginmanager.register(self._records, "vastgpu-records")
        config.pluginmanager.register(JunitLog(config), "vastgpu-junit-log")
        self._github = show(config)
        self._summary: Summary | None = None
        self._timeouts = config.stash.get(TIMEOUTS, DEFAULTS)
        self._waits: Waits | None = None
        """While everything is given back."""
        self._story = ""
        self._told: list[str] = []
        self._failures_left: int = config.getoption("maxfail", 0) if distributed else 0
        config.add_cleanup(end_like_ctrl_c(debugs=config.getoption("usepdb", False)))
        try:
            adapters = adapters_of(config)
            opening = Opening(
                secret=listener.address.secret,
                run=run,
                settings=settings,
                timeouts=self._timeouts,
                directory=str(config.invocation_params.dir),
                workers=workers,
                in_each=in_each,
                adapters=tuple(_offer(adapter) for adapter in adapters),
                hooks=tuple(hooks_of(config)),
                project=str(config.rootpath),
                login=_login() if settings.reuse else 0,
            )
            with self._progress.wait_for("the market, and all that is checked before anything is rented"):
                self.process = SupervisorProcess(
                    opening,
                    listener,
                    collected,
                    PytestHooks(config.hook),
                    {adapter.name: adapter for adapter in adapters},
                    self._listen,
                    self._idle,
                    insist=self._progress.insist,
                    show=self._progress.take_waits,
                    late=late,
                )
        except VastGpuError as error:
            raise pytest.UsageError(f"vastgpu: {error}") from None
        self.calls = self.process.calls
        add_panel(config, self.directory, self._finish)
        if not settings.reuse:
            _told_of_warm(config, settings, lambda text: self._progress.tell(Event("", None, text)))
        config.add_cleanup(self._last_words)
        # A safety net below pytest_sessionfinish: this also runs when a second Ctrl-C interrupts that hook.
        config.add_cleanup(self._give_back)

    @property
    def alive(self) -> Sequence[Alive]:
        """What goes on costing money once everything else is given back."""
        return self._summary.alive if self._summary is not None else ()

    def announce(self, text: str) -> None:
        """Show a line among those of the instances."""
        self._progress.tell(Event("", None, text))

    def _listen(self, event: Event) -> None:
        self._progress.tell(event)
        with suppress(BaseException):  # a test's own handler may raise, and must not end this thread
            _log.info("%s %s", event.label, event.text)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """A test has ended, here or in a worker: show what has happened meanwhile."""
        self._progress.pump()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After ``--maxfail`` failures xdist ends the run but waits for its workers first: end their waiting, too."""
        if report.failed and self._failures_left:
            self._failures_left -= 1
            if not self._failures_left:
                self._tell(self.calls.call_off)

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """A test crashed its worker. It is over, unless a plugin has it tried again and so has changed its report."""
        self._tell(self.calls.crashed, crashitem, report.failed)

    # Outermost: a second Ctrl-C while pytest handles the first one would end pytest with a traceback.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_keyboard_interrupt(
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Generator[None, object, object]:
        """End the run at once when a person interrupts it. Under xdist, ``-x`` ends a run by the same hook.

        pytest and xdist each have an exception of that name for ends that no person requested at that moment.
        """
        with self._not_interrupted():
            with_lines(excinfo)
            if type(excinfo.value).__name__ != pytest.Session.Interrupted.__name__ and self.process.owned:
                # Without waiting: a supervisor that does not answer is given up by the end of the run. Tests of
                # workers that wait for an instance end now.
                with suppress(VastGpuError, OSError):
                    self.process.line.ask_later("keep_nothing")
                    self.process.line.ask_later("call_off")
            return (yield)

    # The innermost wrapper: it runs after xdist and the fixtures have finished, before the terminal writes its summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Give everything back when all workers and fixtures have finished."""
        try:
            return (yield)
        finally:
            self._finish(session)
            self._progress.close()
            if self._summary is not None and self._summary.cost_file:
                self._measured.write_files(Path(self._summary.cost_file).parent)
            if self._github is not None:
                self._github.finish(self._records.directory, self.alive)

    def _finish(self, session: pytest.Session) -> None:
        """Give everything back, write what the run has come to. pytest-html's report is written earlier than ours."""
        self._give_back()
        if self._bad_news() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._records.end(int(session.exitstatus))

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        """Call the supervisor, and ignore that it is gone or rents nothing: tests that need it have reported that."""
        if self.process.owned:
            with suppress(VastGpuError, Cancelled):
                call(*arguments)

    def _not_interrupted(self) -> AbstractContextManager[None]:
        text = "still giving instances back, so that nothing goes on costing money; please wait"
        return not_interrupted(lambda: self._progress.tell(Event("", None, text)))

    def _give_back(self) -> None:
        if self._summary is not None or not self.process.owned:
            return
        with self._not_interrupted():
            self._waits = Waits(self._progress.show, self._progress.insist, self._timeouts.told_every_s)
            try:
                self._summary = self.process.close(self._waits.now_for, self._timeouts.told_every_s)
            except (VastGpuError, Cancelled) as gone:
                self._summary = self._after_its_death(
                    str(gone) or "the supervisor ended before it had given everything back"
                )
            finally:
                self._waits = None

    def _idle(self) -> None:
        """Called again and again while the main thread waits for the supervisor."""
        if self._waits is not None:
            self._waits.tell()
        self._progress.pump()

    def _after_its_death(self, story: str) -> Summary:
        """The summary after the supervisor has died: its guard destroys what is left, its ledger says what that is."""
        self._story = story
        known = self.process.line.supervisor
        self.process.hang_up()
        if known is None or not known.log:
            return Summary([], [], [], "")
        directory = Path(known.log).parent

        def wait_for(what: list[str]) -> None:
            if self._waits is not None:
                self._waits.now_for(what)
            self._idle()

        left = left_by_the_dead(directory, self._timeouts.guard_within_s, wait_for)
        return Summary([], left, [], str(directory / NAME))

    def _last_words(self) -> None:
        """Print what is left also where pytest writes no summary, for example after an internal error."""
        for line in self._bad_news():
            if line not in self._told:
                sys.stderr.write(f"{line}\n")

    def _bad_news(self) -> list[str]:
        problems = self._summary.problems if self._summary else ()
        left = [f"vastgpu: {line}" for problem in problems for line in problem.lines()]
        return [*([f"vastgpu: {self._story}"] if self._story else []), *left]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the table, the kept instances, and what could not be destroyed."""
        if self._summary is not None:
            self._told = self._bad_news()
            self._measured.write(terminalreporter)
            summarise(terminalreporter, self._summary)
            for line in self._told:
                terminalreporter.write_line(line, red=True, bold=True)
        if self._github is not None:
            self._github.annotate(terminalreporter)


def _told_of_warm(config: pytest.Config, settings: Settings, tell: Callable[[str], None]) -> None:
    """Say that instances are warm that this run does not use: they cost money."""
    from pytest_vastgpu.client import warm

    known = warm.find(str(config.rootpath), settings.url)
    for each in (warm.instances(known) if known is not None else None) or ():
        tell(f"{each.told()}; this run does not use it (--vast-reuse does, `vastgpu down` ends it)")


def _login() -> int:
    from pytest_vastgpu.client.warm import login_leader

    return login_leader()


def _offer(adapter: Adapter) -> AdapterOffer:
    origin = f"a conftest file ({kind_of(adapter)})"
    return AdapterOffer(adapter.name, adapter.default_image, float(adapter.warmup_s), origin)
