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
    ExitCode.OK: "it is done",
    ExitCode.FAILED: "it failed, or `ls --check` found something alive",
    ExitCode.USAGE: "wrong usage: a word or value that cannot be meant",
    ExitCode.MARKET: "the market cannot be asked: no key, a wrong one, no answer",
    ExitCode.INTERRUPTED: "it was interrupted (Ctrl-C)",
    ExitCode.CLOSED: "whoever read its output has closed it",
}
