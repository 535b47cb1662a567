"""Whose fault: from what was printed to a verdict. One engine; what it knows are the rules in ``rules_*``.

How it reads. A line is stripped of colours and of what loggers put in front. A line that its program marks as a
warning is never a failure by itself, it can only explain one; code lines of tracebacks say nothing. The first line
that names a cause decides, whatever comes later: root causes are printed first, consequences last. A text that only
says *that* something failed stays ``unknown``. What was printed before the server was ready did not keep it from
becoming ready, so it was no failure.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import NamedTuple

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.readiness import rules_container
from pytest_vastgpu.readiness import rules_gpu
from pytest_vastgpu.readiness import rules_gpu_fit
from pytest_vastgpu.readiness import rules_host
from pytest_vastgpu.readiness import rules_hub
from pytest_vastgpu.readiness import rules_python
from pytest_vastgpu.readiness import rules_registry
from pytest_vastgpu.readiness import rules_request
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
    *rules_registry.RULES,
    *rules_container.RULES,
    *rules_request.RULES,
    *rules_gpu.RULES,
    *rules_gpu_fit.RULES,
    *rules_host.RULES,
    *rules_hub.RULES,
    *rules_vllm.RULES,
    *rules_servers.RULES,
    *rules_signs.RULES,
    *rules_python.RULES,
)
"""In the order in which they are tried on a line: special ones before general ones."""

FINAL = frozenset({FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE, FailureClass.WORKLOAD_FATAL})
"""Classes that end a start: waiting longer cannot help."""

_SAYS_WRONG = re.compile(r"\W*(?:docker: )?(?:error|fatal|panic|failed)\b", re.I)
"""How a status text's line begins that a pull or a start ended with."""
_SOUNDS_WRONG = re.compile(
    r"error|fail|denied|cannot|can't|unable|invalid|unknown|not found|time(?:d )?out|refused|no such|fatal|panic", re.I
)
"""Words of a status text that is no news of a pull."""


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
        self._rules = _rules_for(channel, server.lower(), context, False)
        self._rules_for_chatter = _rules_for(channel, server.lower(), context, True)
        self._splitter = LineSplitter()
        self._number = 0
        self._first: dict[Weight, _Found] = {}
        self._sign: _Found | None = None
        self._ready: _Found | None = None
        self._newest_error = 0
        self._newest_sign = 0
        self._untold = ""
        self._stopped_short = False
        """After the newest sign, something that no rule knows went wrong."""
        self._traceback = ""
        """The first line of one whose error is not read yet."""
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

    def verdict(self, exit_code: int | None = None, *, complete: bool = False) -> Verdict:
        """What the text means so far.

        :param exit_code: Of the program that prints it; None while it runs, or where that is not known.
        :param complete: The text is all there is: what stands at its end was the end.
        """
        if Weight.CAUSE in self._first:
            return self._first[Weight.CAUSE].verdict()
        failing = self._newest_error > self._newest_sign or self._traceback != ""
        over = exit_code is not None or (complete and not self._ready and failing)
        if over or Weight.END in self._first:
            return self._lost(exit_code) if self._ready else self._failed(exit_code, over or complete)
        if self._stopped_short:
            return self._nothing()
        sign = self._ready if self._ready and self._channel is Channel.SERVER_LOG else self._sign
        return sign.verdict() if sign else self._nothing()

    def _failed(self, exit_code: int | None, certain: bool) -> Verdict:
        """A start that is over. While more lines may come, only a cause is worth believing."""
        for weight in (Weight.HINT, Weight.SYMPTOM) if certain else ():
            if weight in self._first:
                return self._first[weight].verdict()
        return Verdict(
            FailureClass.UNKNOWN,
            "server_exited",
            self._end_evidence(exit_code),
            "the log names no cause: look above its last lines, or start again with more verbose logging",
        )

    def _lost(self, exit_code: int | None) -> Verdict:
        """The end of a server that had been ready."""
        first = min(self._first.values(), key=lambda found: found.number, default=None)
        if first and first.rule.weight is Weight.END and first.rule.reason == rules_signs.STOPPED:
            return first.verdict()
        return Verdict(
            FailureClass.RUNTIME_LOST,
            "server_died_after_ready",
            shown(first.printed) if first else self._end_evidence(exit_code),
            "the server had been ready and ended: see the end of its log, and whether the host is still there",
        )

    def _end_evidence(self, exit_code: int | None) -> str:
        if end := self._first.get(Weight.END):
            return shown(end.printed)
        return self._traceback if exit_code is None else f"the server ended with exit code {exit_code}"

    def _read(self, raw: str) -> None:
        self._number += 1
        if not raw or raw.isspace():
            return
        line = read_line(raw)
        if line.dull:
            return
        if line.text.startswith("Traceback (most recent"):
            self._traceback = shown(line.printed) if line.level >= Level.PLAIN else ""
        elif line.text and not line.text[0].isspace():
            self._traceback = ""
        self.progress = progress_of(line.text) or self.progress
        rule = (self._rules_for_chatter if line.level is Level.CHATTER else self._rules).match(line.text)
        if rule is None:
            self._note_untold(line)
            return
        found = _Found(self._number, rule, line.printed)
        weight = rule.weight
        if weight is Weight.SIGN:
            self._sign = found
            self._newest_sign = self._number
            self._stopped_short = False
            if rule.failure_class is FailureClass.READY:
                self._ready = found
                self._first.clear()
            return
        if line.level < Level.PLAIN and self._channel is Channel.SERVER_LOG:
            weight = Weight.HINT if weight is Weight.CAUSE else weight
        elif weight in (Weight.HINT, Weight.SYMPTOM):
            self._newest_error = self._number
        self._first.setdefault(weight, found)

    def _note_untold(self, line: Line) -> None:
        """Keep in mind an error that no rule knows, until the server says something else."""
        if self._channel is Channel.SERVER_LOG:
            if line.level < Level.PLAIN:
                self._untold = ""
            wrong = line.level is Level.ERROR
        elif self._channel is Channel.STATUS_MSG:
            wrong = bool(_SOUNDS_WRONG.search(line.text))
            if _SAYS_WRONG.match(line.text):
                self._stopped_short = True
                self._untold = ""
        else:
            wrong = True
        if wrong and not self._untold:
            self._untold = shown(line.printed)

    def _nothing(self) -> Verdict:
        """No rule has matched a line."""
        if self._untold:
            return Verdict(
                FailureClass.UNKNOWN, "not_recognised", self._untold, "read the text yourself: no rule knows it"
            )
        return Verdict(FailureClass.WARMUP, "nothing_wrong_seen", "", "wait: the text speaks of no failure")


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


_KEPT = 16
_lock = threading.Lock()
_readers: OrderedDict[tuple[str, str, str], LogReader] = OrderedDict()
"""Readers by kind of server, context and what they have read: a growing log is asked about ten times a second."""


def judge_log(log: str, *, server: str = "", context: str = "", exit_code: int | None = None) -> Judgement:
    """What a server's log says, each line of it read once however often it is asked about while it grows.

    :param log: All of it so far, from the first byte of this start.
    :param server: Kind of server, e.g. ``vllm``; empty where it is not known.
    :param context: What else is known, e.g. ``gpus=0``.
    :param exit_code: The server's, or None while it runs.
    """
    with _lock:
        known = [key for key in _readers if key[:2] == (server, context) and log.startswith(key[2])]
        longest = max(known, key=lambda key: len(key[2]), default=None)
        reader = _readers.pop(longest) if longest else LogReader(server=server, context=context)
        reader.feed(log[len(longest[2]) if longest else 0 :])
        if exit_code is None:
            _readers[server, context, log] = reader
            if len(_readers) > _KEPT:
                _readers.popitem(last=False)
        else:
            reader.finish()
        return Judgement(reader.verdict(exit_code), reader.progress)


def judge_end(log: str, *, exit_code: int, server: str = "", context: str = "") -> Verdict:
    """What a server's log says of its end, where the instance still answers: then the machine did not go away."""
    verdict = judge_log(log, server=server, context=context, exit_code=exit_code).verdict
    if verdict.failure_class is FailureClass.RUNTIME_LOST:
        return replace(verdict, failure_class=FailureClass.UNKNOWN)
    return verdict


class _Rules:
    """The rules that may be about a line, in their order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._by_needle: dict[str, list[int]] = {}
        for number, rule in enumerate(rules):
            for needle in rule.needles or ():
                self._by_needle.setdefault(needle, []).append(number)
        self._always = [number for number, rule in enumerate(rules) if rule.needles is None]

    def match(self, text: str) -> Rule | None:
        """The first rule that knows this line."""
        lowered = text.lower()
        found = [numbers for needle, numbers in self._by_needle.items() if needle in lowered]
        for number in sorted({*self._always, *chain.from_iterable(found)}):
            rule = self._rules[number]
            if rule.matches.search(text) and not (rule.excludes and rule.excludes.search(text)):
                return rule
        return None


@cache
def _rules_for(channel: Channel, server: str, context: str, chatter: bool) -> _Rules:
    """The rules for a channel; for lines marked as information only those that are read there."""
    return _Rules(
        [
            rule
            for rule in RULES
            if channel in rule.channels
            and (not rule.servers or server in rule.servers)
            and (rule.belongs is None or rule.belongs.search(context))
            and (rule.chatty or not chatter)
        ]
    )
