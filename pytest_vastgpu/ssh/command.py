"""How a command is put for the instance, and how what it says is read. Pure: text in, text out.

A login shell may print things before our command, may be set to do something else altogether (Vast's images put
logins into tmux, and users have seen only tmux's complaint come back), and the SSH protocol offers no way to end a
command that all servers honour. One thing settles all three: the command announces itself with a mark and its process
id as the first thing in its output. What comes before the mark is not the command's; no mark means that it never ran;
and the id is that of a process group which a second command can kill.
"""

from __future__ import annotations

import codecs
import re
import shlex
from typing import TYPE_CHECKING

from pytest_vastgpu.core.shell import is_variable_name
from pytest_vastgpu.core.text import left_out

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = "pytest-vastgpu:pid"
_MARKED = re.compile(_MARK.encode() + rb" (\d{1,10})\n")
_LONGEST_PREAMBLE = 1 << 20
"""Bytes that a login shell may print before the mark."""

# The values of the environment come in on stdin, where no process list shows them: N lines of `export` commands.
_READ_ENVIRONMENT = (
    "_vg_n={lines}; _vg_e=; while [ $_vg_n -gt 0 ]; do IFS= read -r _vg_l; _vg_e=$_vg_e$_vg_l'\n'; "
    '_vg_n=$((_vg_n-1)); done; eval "$_vg_e"; '
)
# The command gets a session of its own where the image has setsid, so that it can be killed with all its children. It
# runs in the background because setsid forks when it leads a group, and the exit code would be lost; descriptor 3
# because a background command would otherwise read from /dev/null. Where the mark can no longer be written, because we
# gave up before the login shell was through, the command is not begun: nobody would know whom to kill.
_RUN = (
    "_vg_s=; command -v setsid >/dev/null 2>&1 && _vg_s=setsid; exec 3<&0; "
    f'$_vg_s sh -c \'echo {_MARK} $$ && exec sh -c "$1"\' sh "$1" <&3 3<&- & '
    'wait "$!" 2>/dev/null'  # the shell itself would say "Killed" there
)


def shell_line(command: str, env: Mapping[str, str]) -> tuple[str, bytes]:
    """The line to give to the login shell so that ``sh`` runs ``command``, and what must come first on its stdin.

    :raises ValueError: a name in ``env`` is none that a shell could export, or there is a NUL in what must be text.
    """
    for name, value in env.items():
        if not is_variable_name(name):
            raise ValueError(f"{name!r} is no name for an environment variable")
        if "\0" in value:
            raise ValueError(f"the value of environment variable {name} holds a NUL")
    if "\0" in command:
        raise ValueError("the command holds a NUL")
    try:
        command.encode()
    except UnicodeEncodeError:
        raise ValueError("the command holds half of a surrogate pair, which is no text") from None
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    script = (_READ_ENVIRONMENT.format(lines=exports.count("\n")) if exports else "") + _RUN
    return f"sh -c {shlex.quote(script)} sh {shlex.quote(command)}", exports.encode()


def kill_line(pid: int) -> str:
    """The command that kills the process group ``pid``, or where the image has no ``setsid`` the process alone."""
    return f"kill -9 -{pid} 2>/dev/null || kill -9 {pid}"


class MarkedOutput:
    """Takes the stdout of a command put by :func:`shell_line`; gives back what is the command's own."""

    def __init__(self) -> None:
        self.pid = 0
        """Process id of the command; 0 until it has started."""
        self.preamble = b""
        """What was printed before the command started, or instead of it."""

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that the command printed."""
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
    """A command prints a line that may have no end."""


class Lines:
    """Cuts a stream into lines of UTF-8, with replacement characters where it is none.

    :param limit: Characters of the longest line; one without an end would fill the memory.
    """

    def __init__(self, limit: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._parts: list[str] = []
        self._limit = limit
        self._length = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in ``data``, without their ends.

        :raises LineTooLong: if one is longer than the limit. Nothing of it is handed over: half a line can say
            something else than all of it.
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
        """What has come of a last line that has no end."""
        return "".join(self._parts) + self._decoder.decode(b"", final=True)


class BoundedText:
    """Keeps the beginning and the end of a stream, and counts what falls out of the middle."""

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
        """What was kept, as UTF-8 with replacement characters, with a mark where the middle is missing."""
        self._trim()
        gap = left_out(self._dropped, "bytes")
        if not gap:
            return (self._head + self._tail).decode(errors="replace")
        return self._head.decode(errors="replace") + gap + self._tail.decode(errors="replace")
