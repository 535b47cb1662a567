"""Whose fault: from what was printed to a verdict. One engine; what it knows are the rules in ``rules_*``.

How it reads. A line is stripped of colours and of what loggers put in front. A line that its program marks as a
warning is never a failure by itself, it can only explain one; code lines of tracebacks say nothing. The first line
that names a cause decides, whatever comes later: root causes are printed first, consequences last. A text that only
says *that* something failed stays ``unknown``. What was printed before the server was ready did not keep it from
becoming ready, so it was no failure.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.readiness import rules_container
from pytest_vastgpu.readiness import rules_gpu
from pytest_vastgpu.readiness import rules_host
from pytest_vastgpu.readiness import rules_hub
from pytest_vastgpu.readiness import rules_python
from pytest_vastgpu.readiness import rules_servers
from pytest_vastgpu.readiness import rules_signs
from pytest_vastgpu.readiness import rules_ssh
from pytest_vastgpu.readiness import rules_vllm
from pytest_vastgpu.readiness.evidence import shown
from pytest_vastgpu.readiness.lines import Level
from pytest_vastgpu.readiness.lines import Line
from pytest_vastgpu.readiness.lines import LineSplitter
from pytest_vastgpu.readiness.lines import read_line
from pytest_vastgpu.readiness.rules import Rule
from pytest_vastgpu.readiness.rules import Weight
from pytest_vastgpu.readiness.stages import progress_of

RULES: tuple[Rule, ...] = (
    *rules_ssh.RULES,
    *rules_container.RULES,
    *rules_gpu.RULES,
    *rules_host.RULES,
    *rules_hub.RULES,
    *rules_vllm.RULES,
    *rules_servers.RULES,
    *rules_python.RULES,
    *rules_signs.RULES,
)
"""In the order in which they are tried on a line: special ones before general ones."""

FINAL = frozenset({FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE, FailureClass.WORKLOAD_FATAL})
"""Classes that end a start: waiting longer cannot help."""


class _Found(NamedTuple):
    number: int
    """Of the line."""
    rule: Rule
    printed: str

    def verdict(self) -> Verdict:
        return Verdict(self.rule.failure_class, self.rule.reason, shown(self.printed), self.rule.remedy)


class LogReader:
    """Reads a text that grows, each line once, and says at any moment what it means so far.

    :param channel: Where the text is read.
    :param server: Kind of server, e.g. ``vllm``; empty where it is not known.
    :param context: What else is known of the moment, e.g. ``phase=booting``.
    """

    def __init__(self, *, channel: Channel = Channel.SERVER_LOG, server: str = "", context: str = "") -> None:
        self._channel = channel
        self._rules = _rules_for(channel, server.lower(), context)
        self._splitter = LineSplitter()
        self._number = 0
        self._first: dict[Weight, _Found] = {}
        self._sign: _Found | None = None
        self._ready: _Found | None = None
        self.progress = Progress("starting")
        """The newest stage that the text speaks of."""

    def feed(self, text: str) -> None:
        """Read on. A line without its end is kept until the rest of it comes."""
        for line in self._splitter.feed(text):
            self._read(line)

    def finish(self) -> None:
        """Nothing will follow: read also the line that has no end."""
        if self._splitter.rest:
            self._read(self._splitter.rest)
            self._splitter.rest = ""

    @property
    def ready(self) -> bool:
        """Whether the text says that the start was complete at some moment."""
        return self._ready is not None

    def verdict(self, exit_code: int | None = None, *, complete: bool = False) -> Verdict:
        """What the text means so far.

        :param exit_code: Of the program that prints it; None while it runs, or where that is not known.
        :param complete: The text is all there is, so an error at its end was the end.
        """
        cause = self._first.get(Weight.CAUSE)
        ended = self._ended(exit_code, complete)
        if cause and (ended or not self._ready or cause.rule.failure_class is FailureClass.INFRA_FATAL):
            return cause.verdict()
        if ended:
            return self._end(exit_code)
        if self._ready:
            return self._ready.verdict()
        if self._sign:
            return self._sign.verdict()
        return self._nothing()

    def _read(self, raw: str) -> None:
        self._number += 1
        if not raw or raw.isspace():
            return
        line = read_line(raw)
        if line.code:
            return
        self.progress = progress_of(line.text) or self.progress
        rule = _match(line, self._rules)
        if rule is None:
            return
        found = _Found(self._number, rule, line.printed)
        weight = rule.weight
        if weight is Weight.SIGN:
            self._sign = found
            if rule.failure_class is FailureClass.READY:
                self._ready = found
                self._first.clear()
            return
        if weight is not Weight.END and line.level < Level.PLAIN:
            weight = Weight.HINT if weight is Weight.CAUSE else weight
        self._first.setdefault(weight, found)

    def _ended(self, exit_code: int | None, complete: bool) -> bool:
        if exit_code is not None or Weight.END in self._first:
            return True
        symptom = self._first.get(Weight.SYMPTOM)
        return complete and symptom is not None and (self._sign is None or self._sign.number < symptom.number)

    def _end(self, exit_code: int | None) -> Verdict:
        for weight in (Weight.HINT, Weight.SYMPTOM):
            if weight in self._first:
                return self._first[weight].verdict()
        last = self._first.get(Weight.END)
        evidence = shown(last.printed) if last else f"the server ended with exit code {exit_code}"
        if self._ready:
            return Verdict(
                FailureClass.RUNTIME_LOST,
                "server_died_after_ready",
                evidence,
                "the server had been ready and ended: see the end of its log, and whether the host is still there",
            )
        return Verdict(
            FailureClass.UNKNOWN,
            "server_exited",
            evidence,
            "the log names no cause: look above its last lines, or start again with more verbose logging",
        )

    def _nothing(self) -> Verdict:
        if self._channel is Channel.SERVER_LOG:
            return Verdict(FailureClass.WARMUP, "nothing_wrong_seen", "", "wait: the log speaks of no failure")
        return Verdict(FailureClass.UNKNOWN, "not_recognised", "", "read the text yourself: no rule knows it")


def classify(
    text: str, *, channel: Channel, server: str = "", context: str = "", exit_code: int | None = None
) -> Verdict:
    """Whose fault a text tells of.

    :param text: What was read, all of it or its end.
    :param channel: Where it was read.
    :param server: Kind of server, e.g. ``vllm``; empty where it is not known.
    :param context: What else is known of the moment: ``phase=booting``, ``phase=running_for_minutes``.
    :param exit_code: Of the program that printed it; None while it runs, or where that is not known.
    """
    reader = LogReader(channel=channel, server=server, context=context)
    reader.feed(text)
    reader.finish()
    return reader.verdict(exit_code, complete=True)


class Judgement(NamedTuple):
    """What a server's log says so far."""

    verdict: Verdict
    progress: Progress


_KEPT = 32
_lock = threading.Lock()
_readers: OrderedDict[tuple[str, str], LogReader] = OrderedDict()
"""Readers by kind of server and by what they have read: a log is asked about ten times a second while it grows."""


def judge_log(log: str, *, server: str = "", exit_code: int | None = None) -> Judgement:
    """What a server's log says, each line of it read once however often it is asked about while it grows.

    :param log: All of it so far, from the first byte of this start.
    :param server: Kind of server, e.g. ``vllm``; empty where it is not known.
    :param exit_code: The server's, or None while it runs.
    """
    with _lock:
        known = max((key for key in _readers if key[0] == server and log.startswith(key[1])), default=None, key=_length)
        reader = _readers.pop(known) if known else LogReader(server=server)
        reader.feed(log[len(known[1]) if known else 0 :])
        if exit_code is None:
            _readers[server, log] = reader
            if len(_readers) > _KEPT:
                _readers.popitem(last=False)
        else:
            reader.finish()
        return Judgement(reader.verdict(exit_code), reader.progress)


def _length(key: tuple[str, str]) -> int:
    return len(key[1])


def _match(line: Line, rules: Sequence[Rule]) -> Rule | None:
    for rule in rules:
        if line.level is Level.CHATTER and not rule.chatty:
            continue
        if rule.matches.search(line.text) and not (rule.excludes and rule.excludes.search(line.text)):
            return rule
    return None


@cache
def _rules_for(channel: Channel, server: str, context: str) -> tuple[Rule, ...]:
    return tuple(
        rule
        for rule in RULES
        if channel in rule.channels
        and (not rule.servers or server in rule.servers)
        and (rule.belongs is None or rule.belongs.search(context))
    )
