"""Prints progress lines, and the table at the end, on pytest's terminal."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextlib import nullcontext
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.core.text.layout import cut_end
from pytest_vastgpu.plugin.bottom_lines import BottomLines
from pytest_vastgpu.plugin.reporting.defects import guarded
from pytest_vastgpu.plugin.wait_display import WaitDisplay

if TYPE_CHECKING:
    from pytest_vastgpu.client.calls import Summary
    from pytest_vastgpu.core.events import Event
    from pytest_vastgpu.reporting.waiting import Waiting


CLOSES_WITHIN_S = 5.0
"""How long the end waits until the remaining lines are printed: the terminal may take none any more."""

PREFIX = "vastgpu: "
REDRAWN_EVERY_S = 1.0
"""Between two updates of the lines at the bottom."""
_monotonic = time.monotonic  # bound now: a test may replace it later


class ProgressReporter:
    """Prints one line for each event while the run goes on, despite captured output and between pytest's own lines.

    Events may come from any thread. The main thread prints them when it waits for an instance and after each test,
    because only then pytest captures no output. In an xdist controller the main thread never waits for this plugin and
    runs no tests, so a separate thread prints; a lock separates its lines from pytest's reports of tests.

    What tests wait for is shown as well: on a terminal in lines at the bottom that change in place, elsewhere in a line
    every half minute.

    It is a plugin object and must be registered.

    :param own_thread: Whether this is an xdist controller.
    :param header: What this run rents, and its options; printed at once.
    """

    def __init__(self, config: pytest.Config, *, own_thread: bool, header: Sequence[str]) -> None:
        self._config = config
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._quiet = config.get_verbosity() < 0
        self._verbose = config.get_verbosity() > 0
        self._printing = threading.RLock()
        self._broke_off = False
        self._broken = False
        self._display = WaitDisplay(config.get_verbosity())
        self._waits_here = own_thread
        """Whether this process shows what is waited for now: its own tests wait, or those of its workers."""
        self._bottom: BottomLines | None = None
        self._drawn_at = -math.inf
        self._ending = ""
        """What the end of the run waits for; empty before it."""
        self._thread: threading.Thread | None = None
        if own_thread:
            self._thread = threading.Thread(target=self._print_all, name="vastgpu-progress", daemon=True)
            self._thread.start()
        for line in header:
            self.insist(line)
        self.pump()

    def tell(self, event: Event) -> None:
        """Add an event to those to be printed."""
        if event.verbatim:
            self._waiting.put(event.text)
        elif not self._quiet and (self._verbose or not event.detail):
            self._waiting.put(f"vastgpu {event.text}")

    def insist(self, text: str) -> None:
        """Add a line that is printed also with ``-q``: a person waits, and must know for what."""
        self._waiting.put(PREFIX + text)

    def take_waits(self, waits: Sequence[Waiting]) -> None:
        """Take what tests wait for now, as the supervisor reports it."""
        self._display.take(waits, _monotonic())

    @contextmanager
    def wait_for(self, what: str) -> Iterator[None]:
        """Within this block the main thread waits, and :meth:`pump` shows that.

        :param what: For what, where the supervisor has not said more.
        """
        if threading.current_thread() is not threading.main_thread():  # the main thread does something else
            yield
            return
        before, self._waits_here = self._waits_here, True
        self._display.begin(what, _monotonic())
        try:
            yield
        finally:
            self._display.end()
            self._waits_here = before
            if self._bottom is not None:
                self._draw()

    def pump(self) -> None:
        """Print the waiting events. The main thread calls this; it does nothing if a separate thread prints."""
        if self._thread is None:
            while not self._waiting.empty():
                line = self._waiting.get()
                if line is not None:
                    self._print(line)
            self._show_waits()

    def show(self, text: str) -> bool:
        """Show in place what the end of the run waits for; returns whether that is possible."""
        if not BottomLines.possible(self._reporter()):
            return False
        self._ending = text
        self._draw()
        return True

    def close(self) -> None:
        """Print the remaining events."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(CLOSES_WITHIN_S)
            self._thread = None
        self._waits_here, self._ending = False, ""
        self.pump()
        if self._bottom is not None:
            with self._printing, self._uncaptured():
                self._bottom.close()
            self._bottom = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, object, object]:
        """Keep lines apart while pytest writes the name of the test's file, or of the test."""
        with self._printing:
            self._go_on(nodeid)
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Keep lines apart while pytest writes a dot, or a line."""
        with self._printing:
            if report.when == "call" or not report.passed:
                self._go_on(report.nodeid)
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logfinish(self) -> Generator[None, object, object]:
        """Keep lines apart while pytest writes the progress of the run."""
        with self._printing:
            return (yield)

    def _print_all(self) -> None:
        while True:
            with suppress(queue.Empty):
                line = self._waiting.get(timeout=REDRAWN_EVERY_S)
                if line is None:
                    return
                self._print(line)
            if self._waiting.empty():
                self._show_waits()

    def _show_waits(self) -> None:
        if not self._waits_here:
            return
        now = _monotonic()
        if BottomLines.possible(self._reporter()):
            if now - self._drawn_at >= REDRAWN_EVERY_S:
                self._draw()
        else:
            for text in self._display.lines(now):
                self._print(PREFIX + text)

    def _draw(self) -> None:
        """Show in place, at the bottom of the terminal, what is waited for."""
        now = self._drawn_at = _monotonic()
        if self._broken:
            return
        writer = self._config.get_terminal_writer()
        try:
            with self._printing, self._uncaptured():  # what captures the output hides the terminal's width, too
                columns = writer.fullwidth - len(PREFIX) - 1
                self._bottom = self._bottom or BottomLines(writer, self._printing)
                lines = [self._ending] if self._ending else self._display.status(now, columns)
                self._bottom.show([PREFIX + cut_end(line, columns) for line in lines])
        except OSError:
            self._broken = True

    def _uncaptured(self) -> AbstractContextManager[None]:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture else nullcontext()

    def _print(self, line: str) -> None:
        reporter = self._reporter()
        if reporter is None or self._broken:
            return
        try:
            self._print_on(reporter, line)
            self._drawn_at = -math.inf  # it has been erased
        except OSError:  # the terminal or the reader is gone; that must not prevent giving everything back
            self._broken = True

    def _print_on(self, reporter: pytest.TerminalReporter, line: str) -> None:
        with self._printing, self._uncaptured():
            self._broke_off = self._broke_off or isinstance(reporter.currentfspath, Path)
            reporter.ensure_newline()
            begun = self._config.get_terminal_writer().width_of_current_line  # for example the dots of xdist's workers
            # Flush at once: the lock does not cover what pytest writes between tests.
            reporter.write(f"\n{line}\n" if begun else f"{line}\n", flush=True)

    def _go_on(self, nodeid: str) -> None:
        """Start a new line of dots with the file's name if a progress line interrupted the old one.

        pytest does this itself before the next test, after an empty line. But the dot of a test during which a progress
        line was printed would stand alone on its line.
        """
        reporter = self._reporter()
        if self._broke_off and type(reporter) is pytest.TerminalReporter and reporter.currentfspath is None:
            path = self._config.rootpath / nodeid.partition("::")[0]
            reporter.write(f"{os.path.relpath(path, reporter.startpath)} ")
            reporter.currentfspath = path
        self._broke_off = False

    def _reporter(self) -> pytest.TerminalReporter | None:
        reporter: pytest.TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        return reporter


def summarise(reporter: pytest.TerminalReporter, summary: Summary) -> None:
    """Write what became of the instances, where all costs are (with ``-v`` the dearest tests), and what is kept."""
    if summary.books:
        with guarded(reporter.config, "the summary of the instances"):
            _write_instances(reporter, summary)
    for alive in summary.alive:
        if alive.wanted:
            for line in alive.lines():
                reporter.write_line(f"vastgpu: {line}", yellow=True)


def _write_instances(reporter: pytest.TerminalReporter, summary: Summary) -> None:
    from pytest_vastgpu.reporting.costs import by_test
    from pytest_vastgpu.reporting.summary import Row
    from pytest_vastgpu.reporting.summary import dearest
    from pytest_vastgpu.reporting.summary import summary as lines_of
    from pytest_vastgpu.reporting.summary import total

    attempts = [account.attempt for account in summary.books]
    rows = [Row.of(attempt) for attempt in attempts]
    reporter.write_sep("-", f"vastgpu: {total(rows)}")
    for line in lines_of(rows, reporter.config.get_terminal_writer().fullwidth, reporter.verbosity):
        reporter.write_line(line.text, **({line.colour: True} if line.colour else {}))
    if reporter.verbosity > 0:
        for text in dearest(by_test(account.shares for account in summary.books)):
            reporter.write_line(text)
    if reporter.verbosity >= 0:
        reporter.write_line(f"vastgpu: costs are in {summary.cost_file}")
    for attempt in attempts:
        if attempt.unguarded:
            text = f"vastgpu: instance {attempt.instance_id} had no dead man's switch: {attempt.unguarded}"
            reporter.write_line(text, yellow=True)
