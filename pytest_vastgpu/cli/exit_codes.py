"""The exit codes of all commands."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command has ended. ``vastgpu classify --exit-code`` and ``vastgpu ssh ID COMMAND`` have others, too."""

    OK = 0
    FAILED = 1
    USAGE = 2
    MARKET = 3
    INTERRUPTED = 130
    CLOSED = 141

    @property
    def meaning(self) -> str:
        """What it means, for people."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "it is done; there is nothing to report",
    ExitCode.FAILED: "it failed, or found something: what `ls --check` looks for, an instance that does not go",
    ExitCode.USAGE: "wrong usage: a wrong word or value on the command line",
    ExitCode.MARKET: "the market cannot be asked: no key, a wrong one, or no answer",
    ExitCode.INTERRUPTED: "it was interrupted (Ctrl-C)",
    ExitCode.CLOSED: "whoever read its output has closed it",
}
