"""A terminal's screen: what a person sees of the bytes that a program writes."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import termios
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.core.text.layout import columns_of

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b([78DM])|([\r\n\b])|([^\x1b\r\n\b])|\x1b\(B")
_WITHIN_S = 120.0
_LOOK_S = 0.2


class Screen:
    """Rows and a cursor; rows that scroll off the top are kept. It fails on a sequence that it does not know."""

    def __init__(self, columns: int, rows: int = 24) -> None:
        self.columns = columns
        self._height = rows
        self.scrolled: list[str] = []
        self._rows = [[" "] * columns for _ in range(rows)]
        self._y = self._x = 0
        self._saved = (0, 0)

    @property
    def rows(self) -> list[str]:
        """The rows that are seen, down to the last that is not empty."""
        rows = ["".join(row).rstrip() for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def everything(self) -> list[str]:
        """Those that have scrolled off the top, too."""
        return [*self.scrolled, *self.rows]

    @property
    def at_cursor(self) -> str:
        """The row of the cursor, up to it."""
        return "".join(self._rows[self._y][: self._x])

    def feed(self, text: str) -> None:
        """Show what a program writes."""
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise AssertionError(f"an unknown sequence: {text[at : at + 20]!r}")
            at = token.end()
            arguments, final, escape, control, character = token.groups()
            if final:
                self._control(final, arguments)
            elif escape:
                self._escape(escape)
            elif control:
                self._move(control)
            elif character:
                self._put(character)

    def _put(self, character: str) -> None:
        width = columns_of(character)
        if self._x + width > self.columns:
            self._x = 0
            self._down()
        self._rows[self._y][self._x : self._x + width] = [character, *[""] * (width - 1)]
        self._x += width

    def _move(self, control: str) -> None:
        if control == "\r":
            self._x = 0
        elif control == "\b":
            self._x = max(0, self._x - 1)
        else:
            self._down()

    def _down(self) -> None:
        if self._y < self._height - 1:
            self._y += 1
            return
        self.scrolled.append("".join(self._rows.pop(0)).rstrip())
        self._rows.append([" "] * self.columns)

    def _escape(self, what: str) -> None:
        if what == "7":
            self._saved = (self._y, self._x)
        elif what == "8":
            self._y, self._x = self._saved
        elif what == "D":
            self._down()

    def _control(self, final: str, arguments: str) -> None:
        count = int(arguments or 1) if arguments.isdecimal() or not arguments else 0
        if final == "A":
            self._y = max(0, self._y - count)
        elif final == "B":
            self._y = min(self._height - 1, self._y + count)
        elif final in "JK" and arguments in {"", "0"}:
            self._rows[self._y][self._x :] = [" "] * (self.columns - self._x)
            if final == "J":
                self._rows[self._y + 1 :] = [[" "] * self.columns for _ in range(self._height - self._y - 1)]
        elif final == "K" and arguments == "2":
            self._rows[self._y] = [" "] * self.columns
        elif final not in "mhl":  # colours, and modes such as that of the cursor
            raise AssertionError(f"an unknown sequence: {arguments}{final}")


def run_on_screen(
    command: Sequence[str], screen: Screen, environ: Mapping[str, str], look: Callable[[Screen], None]
) -> int:
    """Run a program on a terminal; returns its exit code.

    :param look: Called whenever the program has written something.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        size = struct.pack("HHHH", screen._height, screen.columns, 0, 0)
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        os.execvpe(command[0], list(command), dict(environ))  # noqa: S606
    decoder, rest, silent = codecs.getincrementaldecoder("utf-8")(), "", 0
    while silent < _WITHIN_S / _LOOK_S:  # no deadline: the clock goes on while this machine is suspended
        if not select.select([terminal], [], [], _LOOK_S)[0]:
            silent += 1
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        rest += decoder.decode(data)  # a character may be cut short, and so may a sequence
        whole = rest.rfind("\x1b") if "\x1b" in rest[-16:] else len(rest)
        screen.feed(rest[:whole])
        rest = rest[whole:]
        look(screen)
    screen.feed(rest)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
