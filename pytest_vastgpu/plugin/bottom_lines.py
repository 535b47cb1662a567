"""Lines below what pytest has written on a terminal. They are erased before anything else is written."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pytest

_ERASE_BELOW = "\x1b[J"
_DOWN = "\x1bD"
"""Moves down, and scrolls at the bottom of the screen; the column stays."""
_UP = "\x1b[{}A"
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_BELOW = "\x1b[B\r"


class BottomLines:
    """Lines that change in place. The cursor stays where pytest has left it, in the middle of a line of dots or not.

    What pytest, xdist and other plugins print goes through the terminal writer's ``write``. It is replaced on that
    object, so that they are erased first.

    :param lock: Held while something is written.
    """

    def __init__(self, writer: Any, lock: threading.RLock) -> None:
        self._writer = writer
        self._lock = lock
        self._shown = False
        self._write = writer.write
        writer.write = self._erase_and_write

    @staticmethod
    def possible(reporter: pytest.TerminalReporter | None, environ: Mapping[str, str] = os.environ) -> bool:
        """Whether pytest writes to a terminal that can do this, in its own way."""
        return (
            type(reporter) is pytest.TerminalReporter
            and bool(reporter.isatty)
            and environ.get("TERM", "dumb") != "dumb"
        )

    def show(self, lines: Sequence[str]) -> None:
        """Show lines in place of those before. The caller has seen to it that nothing captures what is printed.

        :param lines: Each narrower than the terminal; none erases those before.
        """
        if not lines:
            self.erase()
            return
        with self._lock:
            self._writer.flush()
            begun = self._writer.width_of_current_line > 0
            rows = len(lines) - (not begun)
            room = _DOWN * rows + _UP.format(rows) if rows else ""
            text = "\r\n".join(lines)
            sys.stdout.write(f"{_ERASE_BELOW}{room}{_SAVE}{_BELOW * begun}{text}{_RESTORE}")
            sys.stdout.flush()
            self._shown = True

    def erase(self) -> None:
        """Erase them."""
        with self._lock:
            if self._shown:
                self._shown = False
                self._writer.flush()
                sys.stdout.write(_ERASE_BELOW)
                sys.stdout.flush()

    def close(self) -> None:
        """Erase them, and leave pytest's writer as it was."""
        self.erase()
        self._writer.write = self._write

    def _erase_and_write(self, *text: Any, **markup: Any) -> None:
        with self._lock:
            self.erase()
            self._write(*text, **markup)
