"""Progress lines and the table at the end, on pytest's terminal."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_vastgpu.model import Attempt
    from pytest_vastgpu.reporting.events import Event

_PULSE_S = 0.2


class Progress:
    """One line for each event, live, whatever captures output. Events may come from any thread.

    :param own_thread: Print from a thread of its own: in an xdist controller, whose main thread never waits for us.
    """

    def __init__(self, config: pytest.Config, *, own_thread: bool) -> None:
        self._config = config
        self._waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._quiet = config.get_verbosity() < 0
        self._thread: threading.Thread | None = None
        if own_thread:
            self._thread = threading.Thread(target=self._print_all, name="vastgpu-progress", daemon=True)
            self._thread.start()

    def tell(self, event: Event) -> None:
        """Take an event to be printed."""
        if not self._quiet:
            self._waiting.put(event)

    def pump(self) -> None:
        """Print what waits. Called by the main thread; does nothing where a thread of its own prints."""
        if self._thread is None:
            while not self._waiting.empty():
                event = self._waiting.get()
                if event is not None:
                    self._print(event)

    def close(self) -> None:
        """Print what is left."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        self.pump()

    def _print_all(self) -> None:
        while (event := self._waiting.get()) is not None:
            self._print(event)

    def _print(self, event: Event) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            return
        if capture is None:
            self._write(reporter, event)
        else:
            with capture.global_and_fixture_disabled():
                self._write(reporter, event)

    def _write(self, reporter: pytest.TerminalReporter, event: Event) -> None:
        reporter.ensure_newline()
        writer = self._config.get_terminal_writer()
        if writer.width_of_current_line:  # the dots of xdist's workers
            writer.line()
        reporter.write_line(f"vastgpu {event.text}")


def summarise(reporter: pytest.TerminalReporter, attempts: Sequence[Attempt], problems: Sequence[str]) -> None:
    """Write the table of instances, and in red what could not be destroyed."""
    from pytest_vastgpu.reporting.summary import table
    from pytest_vastgpu.reporting.summary import total

    if attempts:
        reporter.write_sep("-", f"vastgpu: {total(attempts)}")
        for line in table(attempts):
            reporter.write_line(line)
    for problem in problems:
        reporter.write_line(f"vastgpu: STILL RUNNING: {problem}", red=True, bold=True)
