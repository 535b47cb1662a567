"""Wraps a command for the instance's shell, and parses its output. Pure: text in, text out.

There are three problems. A login shell may print text before our command. It may run something else instead (Vast's
images put logins into tmux, and users have seen only tmux's error message). And SSH has no way to end a command that
all servers support. One mechanism solves all three: the wrapped command first prints a mark with its process id. Output
before the mark is not the command's; without a mark, the command did not run; and a second command can kill the process
group of that id.
"""

from __future__ import annotations

import codecs
import re
import shlex
from typing import TYPE_CHECKING

from pytest_vastgpu.core.text.layout import left_out
from pytest_vastgpu.core.text.shell import exports
from pytest_vastgpu.core.text.shell import wrong_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = "pytest-vastgpu:pid"
_MARKED = re.compile(_MARK.encode() + rb" (\d{1,10})\n")
_LONGEST_PREAMBLE = 1 << 20
"""Bytes that a login shell may print before the mark."""

# The environment's values arrive on stdin, where no process list shows them, as N lines of `export` commands.
_READ_ENVIRONMENT = (
    "_vg_n={lines}; _vg_e=; while [ $_vg_n -gt 0 ]; do IFS= read -r _vg_l; _vg_e=$_vg_e$_vg_l'\n'; "
    '_vg_n=$((_vg_n-1)); done; eval "$_vg_e"; '
)
# The command gets a session of its own where the image has setsid, so that it can be killed with all its children. It
# runs in the background because setsid forks when it leads a group, and the exit code would be lost. Descriptor 3 is
# needed because a background command would otherwise read from /dev/null. Where the mark can no longer be written,
# because we gave up before the login shell finished, the command does not start: its process id would be unknown.
_RUN = (
    "_vg_s=; command -v setsid >/dev/null 2>&1 && _vg_s=setsid; exec 3<&0; "
    f'$_vg_s sh -c \'echo {_MARK} $$ && exec sh -c "$1"\' sh "$1" <&3 3<&- & '
    'wait "$!" 2>/dev/null'  # the shell itself would say "Killed" there
)


def shell_line(command: str, env: Mapping[str, str]) -> tuple[str, bytes]:
    """The line for the login shell that makes ``sh`` run ``command``, and the first part of its stdin.

    :raises ValueError: a name in ``env`` is no valid shell variable, or a text holds a NUL.
    """
    for name, value in env.items():
        if wrong := wrong_name(name):
            raise ValueError(wrong)
        if "\0" in value:
            raise ValueError(f"the value of environment variable {name} holds a NUL")
    if "\0" in command:
        raise ValueError("the command holds a NUL")
    try:
        command.encode()
    except UnicodeEncodeError:
        raise ValueError("the command holds half of a surrogate pair, which is no text") from None
    lines = exports(env)
    script = (_READ_ENVIRONMENT.format(lines=lines.count("\n")) if lines else "") + _RUN
    return f"sh -c {shlex.quote(script)} sh {shlex.quote(command)}", lines.encode()


def kill_line(pid: int) -> str:
    """The command that kills the process group ``pid``; only the process, where the image has no ``setsid``."""
    return f"kill -9 -{pid} 2>/dev/null || kill -9 {pid}"


class MarkedOutput:
    """Separates the output of a command wrapped by :func:`shell_line` from other text on its stdout."""

    def __init__(self) -> None:
        self.pid = 0
        """Process id of the command; 0 until it has started."""
        self.preamble = b""
        """Output before the command started, or instead of it."""

    def feed(self, data: bytes) -> bytes:
        """Add stdout; returns the part of ``data`` that the command printed."""
        if self.pid:
            return data
        self.preamble += data
        found = _MARKED.search(self.preamble)
        if found is None:
            self.preamble = self.preamble[-_LONGEST_PREAMBLE:]
            return b""
        self.pid = int(found[1])
        own = self.preamble[found.end() :]
        self.preamble = self.preamble[: found.start()]
        return own


class LineTooLong(OSError):
    """A command prints a line longer than the limit."""


class Lines:
    """Splits a stream into lines of UTF-8; invalid bytes become replacement characters.

    :param limit: Characters of the longest line: an endless one would fill the memory.
    """

    def __init__(self, limit: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._parts: list[str] = []
        self._limit = limit
        self._length = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in ``data``, without their line ends.

        :raises LineTooLong: if one is longer than the limit. No part of it is returned: half a line can have another
            meaning than the whole.
        """
        first, *others = self._decoder.decode(data).split("\n")
        self._parts.append(first)
        self._length += len(first)
        if self._length > self._limit:
            self._parts.clear()
            raise LineTooLong(f"it printed a line of more than {self._limit >> 20} MB")
        if not others:
            return []
        *lines, last = "".join(self._parts), *others
        self._parts, self._length = [last], len(last)
        return lines

    def rest(self) -> str:
        """The last line, where it has no line end."""
        return "".join(self._parts) + self._decoder.decode(b"", final=True)


class BoundedText:
    """Keeps the beginning and the end of a stream, and counts the bytes dropped in between."""

    def __init__(self, limit: int) -> None:
        """:param limit: Bytes to keep."""
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._half:  # trimmed in big steps, so that each byte is moved at most once
            self._trim()

    def _trim(self) -> None:
        excess = max(0, len(self._tail) - self._half)
        del self._tail[:excess]
        self._dropped += excess

    def text(self) -> str:
        """The kept text, as UTF-8 with replacement characters, and with a note where the middle is missing."""
        self._trim()
        gap = left_out(self._dropped, "bytes")
        if not gap:
            return (self._head + self._tail).decode(errors="replace")
        return self._head.decode(errors="replace") + gap + self._tail.decode(errors="replace")
