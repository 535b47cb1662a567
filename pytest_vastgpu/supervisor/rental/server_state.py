"""What the watcher on an instance tells, and what is known of a server from all of it. Pure: lines in, values out."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.core.text import bounded
from pytest_vastgpu.core.text import left_out
from pytest_vastgpu.diagnosis.lines import kind
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.supervisor.rental import server_job

_KINDS = 20_000
"""Of so many kinds of lines it is remembered that they were seen; then it begins anew."""
_LARGEST_FILE = 1 << 62


@dataclass(frozen=True)
class LogPiece:
    """Something that the server has printed."""

    offset: int
    """Where it stands in the log, in bytes."""
    data: bytes


@dataclass(frozen=True)
class ProcessState:
    """What has become of the server's process."""

    exit_code: int | None
    """None while it lives."""


ServerUpdate = LogPiece | ProcessState | ProbeResult


def parse(line: str, probes: Sequence[Probe]) -> ServerUpdate | None:
    """What a line of the watcher says; None where it is no such line.

    :param probes: The probes that it runs; it knows them by their numbers, from 1 on.
    """
    kind, *words = line.split(" ")
    try:
        if kind == "log":
            offset, data = words
            return LogPiece(_place(offset), bytes.fromhex(data))
        if kind == "server":
            (state,) = words
            ends = {"alive": None, "killed": server_job.KILLED_EXIT_CODE}
            return ProcessState(ends[state] if state in ends else int(state))
        if kind == "probe":
            number, end, hundredths, *texts = words
            stdout, stderr = (bytes.fromhex(text).decode(errors="replace") for text in texts)
            name, code = probes[int(number) - 1].name, None if end == "late" else int(end)
            failure = {None: ProbeFailure.TIMEOUT, 0: ProbeFailure.NONE}.get(code, ProbeFailure.COMMAND)
            return ProbeResult(name, failure, code, stdout, stderr, int(hundredths) / 100)
    except (ValueError, IndexError):
        pass  # cut short by a connection that broke
    return None


def _place(offset: str) -> int:
    """:raises ValueError: for what is no place in a file."""
    place = int(offset)
    if not 0 <= place <= _LARGEST_FILE:
        raise ValueError(offset)
    return place


class ServerState:
    """What is known of a server, put together from news as they come.

    :param log_limit: Characters of its log to keep; the middle of a longer one is cut out.
    """

    def __init__(self, probes: Sequence[Probe], log_limit: int) -> None:
        self._results = {
            probe.name: ProbeResult(probe.name, ProbeFailure.TRANSPORT, None, "", "[not run yet]\n", 0.0)
            for probe in probes
        }
        self._exit_code: int | None = None
        self._log_limit = log_limit
        self._answering = frozenset(probe.name for probe in probes if probe.port)
        self._kinds: set[str] = set()
        self._is_new = True
        self._new_s = self._heard_s = 0.0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.log = ""
        self.offset = 0
        """Byte of the log from which the watcher should go on."""

    def take(self, news: ServerUpdate) -> None:
        """Learn one more thing."""
        if isinstance(news, ProbeResult):
            self._results[news.name] = news
            if news.name in self._answering:
                self._compare(news.stdout)
        elif isinstance(news, ProcessState):
            self._exit_code = news.exit_code
        else:
            data = news.data[max(0, self.offset - news.offset) :]  # the rest is known
            gap = max(0, news.offset - self.offset)
            text = self._decoder.decode(data)
            self.log = bounded(self.log + left_out(gap, "bytes") + text, self._log_limit)
            self.offset += gap + len(data)
            self._compare(text)

    def observation(self, age_s: float, *, watched: bool = True) -> Observation:
        """All of it, for an adapter.

        :param age_s: Seconds since the server was started.
        :param watched: Whether news would have been told: of a server that nobody watches, nothing is known.
        """
        if self._is_new:
            self._new_s = age_s
        if watched:
            self._heard_s = age_s
        self._is_new = False
        still_s = max(0.0, self._heard_s - self._new_s)
        return Observation(dict(self._results), self.log, self._exit_code, age_s, still_s)

    def _compare(self, text: str) -> None:
        """Whether a text says anything that was not said before."""
        kinds = set(map(kind, re.split(r"[\r\n]+", text))) - self._kinds
        if kinds:
            self._is_new = True
            self._kinds |= kinds
            if len(self._kinds) > _KINDS:
                self._kinds = kinds
