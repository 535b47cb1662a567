"""Lines that change in place on a terminal, below what pytest has written."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pytest_vastgpu.plugin.bottom_lines import BottomLines
from tests.support.screen import Screen

SHOWN = ["vastgpu: waiting 3 s", "vastgpu: waiting 4 s"]


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def __init__(self, columns: int = 40, rows: int = 6) -> None:
        super().__init__()
        self.screen = Screen(columns, rows)

    def write(self, text: str) -> int:
        self.screen.feed(text.replace("\n", "\r\n"))  # as the terminal's driver does
        return len(text)

    def isatty(self) -> bool:
        return True


class Case:
    """pytest's writer on a terminal, and our lines below."""

    def __init__(self, config: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
        from _pytest.config import create_terminal_writer

        self.terminal = Terminal()
        self.writer: Any = create_terminal_writer(config, self.terminal)
        monkeypatch.setattr(sys, "stdout", self.terminal)
        self.lines = BottomLines(self.writer, threading.RLock())

    @property
    def rows(self) -> list[str]:
        return self.terminal.screen.rows


@pytest.fixture
def new_case(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Case]:
    """A test makes it itself: from its setup to its call pytest changes standard output."""
    return lambda: Case(pytestconfig, monkeypatch)


@pytest.mark.parametrize("above", range(8))
@pytest.mark.parametrize("count", [1, 2])
def test_pytest_s_line_goes_on_where_it_was(new_case: Callable[[], Case], above: int, count: int) -> None:
    case = new_case()
    before = [f"line {number}" for number in range(above)]
    for line in before:
        case.writer.line(line)
    case.writer.write("test_it.py ..")
    for _ in range(3):
        case.lines.show(SHOWN[:count])
        assert case.rows[-count - 1 :] == ["test_it.py ..", *SHOWN[:count]]
        assert case.terminal.screen.at_cursor == "test_it.py .."
    case.writer.write(".")
    assert case.rows[-1] == "test_it.py ..."
    case.lines.show(SHOWN[:1])
    case.writer.line(" [100%]")
    case.writer.line("after")
    assert case.terminal.screen.everything == [*before, "test_it.py ... [100%]", "after"]


@pytest.mark.parametrize("above", range(8))
def test_at_the_beginning_of_a_line_no_line_is_left_free(new_case: Callable[[], Case], above: int) -> None:
    case = new_case()
    before = [f"line {number}" for number in range(above)]
    for line in before:
        case.writer.line(line)
    case.lines.show(SHOWN)
    assert case.rows[-2:] == SHOWN
    case.lines.show(SHOWN[:1])
    assert case.rows[-1:] == SHOWN[:1]
    case.writer.sep("=", "end", fullwidth=11)
    assert case.terminal.screen.everything == [*before, "=== end ==="]


def test_fewer_lines_and_none_leave_nothing_of_those_before(new_case: Callable[[], Case]) -> None:
    case = new_case()
    case.writer.write("..")
    case.lines.show(SHOWN)
    case.lines.show(SHOWN[:1])
    assert case.rows == ["..", SHOWN[0]]
    case.lines.show([])
    assert case.rows == [".."]


def test_what_is_closed_leaves_the_writer_as_it_was(new_case: Callable[[], Case]) -> None:
    case = new_case()
    case.writer.write("..")
    case.lines.show(SHOWN)
    case.lines.close()
    assert case.rows == [".."]
    case.writer.write(".")
    assert case.rows == ["..."]
    assert "lines" not in repr(case.writer.write)


class OtherReporter:
    """That of another plugin, which draws in its own way."""

    def __init__(self, _config: pytest.Config, file: io.StringIO) -> None:
        self.isatty = file.isatty()


@pytest.mark.parametrize(
    ("kind", "terminal", "environ", "possible"),
    [
        (pytest.TerminalReporter, True, {"TERM": "xterm"}, True),
        (pytest.TerminalReporter, True, {"TERM": "xterm", "NO_COLOR": "1"}, True),
        (pytest.TerminalReporter, True, {"TERM": "dumb"}, False),
        (pytest.TerminalReporter, True, {}, False),
        (pytest.TerminalReporter, False, {"TERM": "xterm"}, False),
        (OtherReporter, True, {"TERM": "xterm"}, False),
    ],
)
def test_where_lines_can_change_in_place(
    pytestconfig: pytest.Config, kind: Any, terminal: bool, environ: dict[str, str], possible: bool
) -> None:
    file = Terminal() if terminal else io.StringIO()
    assert BottomLines.possible(kind(pytestconfig, file), environ) is possible
    assert not BottomLines.possible(None, environ)
