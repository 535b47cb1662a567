"""Parses the lines of the monitor program, and combines them into a server's state. Pure: lines in, values out."""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.core.text.layout import bounded
from pytest_vastgpu.core.text.layout import left_out
from pytest_vastgpu.diagnosis.lines import kind
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.supervisor.rental.server import job

_ID = re.compile(r"\b(?=[\w-]*0)[\w-]{8,}")
"""An id, after its digits have become zeros: each request may have another one."""
_KINDS = 20_000
"""Most kinds of lines that are remembered as seen; beyond that the memory is cleared."""
_LARGEST_FILE = 1 << 62
_LONGEST_S = 1e7


@dataclass(frozen=True)
class LogPiece:
    """A piece of the server's log."""

    offset: int
    """Its offset in the log, in bytes."""
    data: bytes


@dataclass(frozen=True)
class ProcessState:
    """State of the server's process."""

    exit_code: int | None
    """None while it lives."""
    age_s: float = 0.0
    """Seconds since it ended, as far as the instance knows."""


ServerUpdate = LogPiece | ProcessState | ProbeResult


def parse(line: str, probes: Sequence[Probe]) -> ServerUpdate | None:
    """Parse a line of the monitor program; None where the line is invalid.

    :param probes: The probes that the program runs. It numbers them from 1.
    """
    kind, *words = line.split(" ")
    try:
        if kind == "log":
            offset, data = words
            return LogPiece(_place(offset), bytes.fromhex(data))
        if kind == "server":
            state, *times = words
            ends = {"alive": None, "killed": job.KILLED_EXIT_CODE}
            return ProcessState(ends[state] if state in ends else int(state), _age(*times))
        if kind == "probe":
            number, end, hundredths, *texts = words
            stdout, stderr = (bytes.fromhex(text).decode(errors="replace") for text in texts)
            name, code = probes[int(number) - 1].name, None if end == "late" else int(end)
            failure = {None: ProbeFailure.TIMEOUT, 0: ProbeFailure.NONE}.get(code, ProbeFailure.COMMAND)
            return ProbeResult(name, failure, code, stdout, stderr, int(hundredths) / 100)
    except (ValueError, IndexError, TypeError, OverflowError):
        pass  # a broken connection has cut the line short, or the host has put something else there
    return None


def _age(when: str = "0", now: str = "0") -> float:
    age_s = float(now) - float(when)
    return age_s if 0 <= age_s < _LONGEST_S else 0.0


def _place(offset: str) -> int:
    """Parse an offset in a file.

    :raises ValueError: if it is none.
    """
    place = int(offset)
    if not 0 <= place <= _LARGEST_FILE:
        raise ValueError(offset)
    return place


class ServerState:
    """State of a server, combined from its updates.

    :param log_limit: Characters of its log to keep; the middle of a longer one is cut out.
    """

    def __init__(self, probes: Sequence[Probe], log_limit: int) -> None:
        self.lock = threading.Lock()
        """For who has it. A monitor that ends may be told something while the next one is."""
        self._results = {
            probe.name: ProbeResult(probe.name, ProbeFailure.TRANSPORT, None, "", "[not run yet]\n", 0.0)
            for probe in probes
        }
        self.exit_code: int | None = None
        """None while its process lives."""
        self._log_limit = log_limit
        self._answering = frozenset(probe.name for probe in probes if probe.port)
        self._kinds: set[str] = set()
        self._is_new = True
        self._new_s = self._heard_s = 0.0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.log = ""
        self.printed = 0
        """Characters of the log so far, those that were cut out included."""
        self.offset = 0
        """Byte of the log from which the monitor program should go on."""

    def take(self, update: ServerUpdate) -> None:
        """Add one update."""
        if isinstance(update, ProbeResult):
            self._results[update.name] = update
            if update.name in self._answering:
                self._compare(update.stdout)
        elif isinstance(update, ProcessState):
            self.exit_code = update.exit_code
        else:
            data = update.data[max(0, self.offset - update.offset) :]  # the rest is known
            gap = max(0, update.offset - self.offset)
            text = self._decoder.decode(data)
            more = left_out(gap, "bytes") + text
            self.log = bounded(self.log + more, self._log_limit)
            self.printed += len(more)
            self.offset += gap + len(data)
            self._compare(text)

    def observation(self, age_s: float, *, watched: bool = True) -> Observation:
        """The state as an adapter gets it.

        :param age_s: Seconds since the server was started.
        :param watched: Whether the monitor program runs. Without it, silence does not mean that the server stands
            still.
        """
        if self._is_new:
            self._new_s = age_s
        if watched:
            self._heard_s = age_s
        self._is_new = False
        still_s = max(0.0, self._heard_s - self._new_s)
        return Observation(dict(self._results), self.log, self.exit_code, age_s, still_s)

    def _compare(self, text: str) -> None:
        """Note whether a text has a line of a kind not seen before."""
        kinds = {_ID.sub("0", kind(line)) for line in re.split(r"[\r\n]+", text)} - self._kinds
        if kinds:
            self._is_new = True
            self._kinds |= kinds
            if len(self._kinds) > _KINDS:
                self._kinds = kinds
