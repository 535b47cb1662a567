"""Reads a log line by line and gives its verdict at any moment. The rules describe the known causes.

How it reads: it removes colours and logger prefixes from a line. A line that its program marks as a warning is never a
failure by itself, but it can explain one; code lines of tracebacks are ignored. The first line that names a cause
decides, because programs print root causes first and consequences last. Only a line against the machine takes
precedence over an earlier line that seemed to blame the workload.

What it withdraws: a line that reports a failure does not count if the server makes progress afterwards. Progress of a
process cancels that process's earlier lines, and readiness cancels those of all processes. After that, the error of one
request says nothing about the server; only its end does. No process cancels a line of another container.

While the process runs, no failure is final until it has printed nothing new for :data:`~.hangs.STILL_S`, except the
known :data:`~.hangs.HANGS`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.diagnosis.findings import Finding
from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.diagnosis.hangs import Hang
from pytest_vastgpu.diagnosis.hangs import hang_in
from pytest_vastgpu.diagnosis.kinds import kind_of
from pytest_vastgpu.diagnosis.lines import Level
from pytest_vastgpu.diagnosis.lines import Line
from pytest_vastgpu.diagnosis.lines import LineSplitter
from pytest_vastgpu.diagnosis.lines import container_of_status
from pytest_vastgpu.diagnosis.lines import read_line
from pytest_vastgpu.diagnosis.rules import gpu
from pytest_vastgpu.diagnosis.rules import signs
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.diagnosis.rules.ruleset import rules_for
from pytest_vastgpu.diagnosis.stages import progress_of
from pytest_vastgpu.diagnosis.tracebacks import Tracebacks
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict

_CRASHES = frozenset({"crashed", "process_killed"})
"""Reasons of lines that report the end of a process, whatever its cause."""
_SAYS_WRONG = re.compile(r"\W*(?:docker: |Container \S+ +|[\w.-]+ )?(?:error|fatal|panic|failed)\b", re.I)
"""The beginning of a status text with which a pull or a start ended."""
_SOUNDS_WRONG = re.compile(
    r"error|fail|denied|cannot|can't|unable|invalid|unknown|not found|time(?:d )?out|refused|no such|fatal|panic", re.I
)
"""Words of failure in a status text that reports no progress of a pull."""


class LogReader:
    """Reads a growing text, each line once, and gives its verdict so far at any moment.

    :param channel: The source of the text.
    :param server: Kind of server, a name of :data:`~.kinds.KINDS`; empty if unknown.
    :param context: Further facts about the situation, e.g. ``phase=booting``.
    """

    def __init__(self, *, channel: Channel = Channel.SERVER_LOG, server: str = "", context: str = "") -> None:
        self._channel = channel
        self._is_log = channel is Channel.SERVER_LOG
        kind = kind_of(server)
        self._rules = rules_for(channel, kind, context, False)
        self._rules_for_chatter = rules_for(channel, kind, context, True)
        self._gpu_rented = gpu.gpu_rented(context)
        self._splitter = LineSplitter()
        self._number = 0
        self._told: dict[tuple[str, str, Weight, bool], Finding] = {}
        """Findings against the start: the first line of each process and weight, for and against the machine."""
        self._sign: Finding | None = None
        self._ready: Finding | None = None
        self._without_gpu: Finding | None = None
        self._hangs = False
        self._is_ollama = False
        self._newest_error: dict[str, int] = {}
        self._newest_sign: dict[str, int] = {}
        self._stopped_short: set[str] = set()
        """Containers whose newest line is an error that no rule knows."""
        self._untold = ""
        self._tracebacks = Tracebacks()
        self._seen: set[Progress] = set()
        self._moved = 0
        """The number of the line with the newest progress."""
        self.progress = Progress("starting")
        """The newest stage in the text."""

    def feed(self, text: str) -> None:
        """Read more text. A line without its end is kept until the rest arrives."""
        for line in self._splitter.feed(text):
            self._read(line)

    def finish(self) -> None:
        """Read also the last line without an end, because no text will follow."""
        if self._splitter.rest:
            self._read(self._splitter.rest)
            self._splitter.rest = ""

    # ------------------------------------------------------------------ verdicts

    def verdict(self, exit_code: int | None = None, *, complete: bool = False, still_s: float = 0.0) -> Verdict:
        """The verdict of the text so far.

        :param exit_code: Exit code of the program that prints the text; None while it runs, or if unknown.
        :param complete: Whether the text is complete and the program's state unknown, so that the text's end counts as
            the program's end. False if the program is known to run.
        :param still_s: Seconds since the running program last printed something new.
        """
        if self._without_gpu:
            return self._without_gpu.verdict()
        over = exit_code is not None
        given_up = complete or still_s >= STILL_S
        settled = over or given_up or self._hangs or not self._is_log
        ready = self._ready if self._is_log else None
        causes = [found for found in self._told.values() if found.weight is Weight.CAUSE]
        failing = given_up and self._fails()
        if ready and not failing and all(self._is_of_a_request(found, ready) for found in causes):
            return self._served(ready, exit_code, settled)
        if causes:
            cause = self._deciding(causes)
            return cause.verdict() if settled else cause.not_yet()
        over = over or failing
        if over or self._first(Weight.END):
            return self._failed(exit_code, over or settled)
        if self._stopped_short:
            return self._nothing()
        sign = ready or self._sign
        return sign.verdict() if sign else self._nothing()

    def _fails(self) -> bool:
        """Whether a container that is not ready printed an error last, so that this error was its end."""
        if self._ready is None and self._tracebacks.unfinished:
            return True
        return any(
            number > self._newest_sign.get(container, 0) and not (self._ready and container == self._ready.container)
            for container, number in self._newest_error.items()
        )

    def _is_of_a_request(self, cause: Finding, ready: Finding) -> bool:
        """Whether a failure after readiness concerns only a request and not the start of the server.

        It concerns the start if no request can cause it, if another container reports it, if the server began to load
        a model after readiness, or if Ollama's command line reports it, which pulls and loads the model.
        """
        if cause.rule.of_start or (self._is_ollama and cause.printed.startswith("Error: ")):
            return False
        return cause.container == ready.container and not ready.number < self._moved < cause.number

    def _first(self, weight: Weight) -> Finding | None:
        """The finding of one weight that decides."""
        found = [found for found in self._told.values() if found.weight is weight]
        return self._deciding(found) if found else None

    def _deciding(self, found: list[Finding]) -> Finding:
        """The first finding; but if it seems to blame the workload, a later one against the machine decides."""
        ordered = sorted(found, key=lambda one: one.number)
        if not self._is_log or ordered[0].rule.failure_class is not FailureClass.WORKLOAD_FATAL:
            return ordered[0]
        return next((one for one in ordered if one.against_machine), ordered[0])

    def _failed(self, exit_code: int | None, certain: bool) -> Verdict:
        """The verdict of a start that has ended. While more lines may come, only a cause is reliable."""
        for weight in (Weight.HINT, Weight.SYMPTOM) if certain else ():
            if found := self._first(weight):
                return found.verdict()
        if exit_code == 0:
            remedy = "the command ended without an error: a server must stay in the foreground (no `&`; use exec)"
        else:
            remedy = "the log names no cause: look above its last lines, or start again with more verbose logging"
        return Verdict(FailureClass.UNKNOWN, "server_exited", self._end_evidence(exit_code), remedy)

    def _served(self, ready: Finding, exit_code: int | None, settled: bool) -> Verdict:
        """The verdict of a server that was ready: it still serves, even if requests failed, or it has ended."""
        ends = [f for f in self._told.values() if f.weight is Weight.END or f.rule.reason in _CRASHES]
        if exit_code is None and not ends:
            sign = self._sign
            loads = sign and sign.number > ready.number and sign.rule.reason == signs.LOADS_MODEL
            return sign.verdict() if sign and loads else ready.verdict()
        causes = [found for found in self._told.values() if found.weight is Weight.CAUSE]
        cause = self._deciding(causes) if causes else None
        if cause and settled and cause.rule in gpu.RULES:  # no request can damage a GPU
            return cause.verdict()
        first = min(ends, key=lambda found: found.number, default=None)
        if first and first.rule.reason == signs.STOPPED:
            return first.verdict()
        if cause and settled and any(end.number >= cause.number for end in ends):
            return cause.verdict()
        first = min(self._told.values(), key=lambda found: found.number, default=None)
        return Verdict(
            FailureClass.RUNTIME_LOST,
            "server_died_after_ready",
            shown(first.printed) if first else self._end_evidence(exit_code),
            "the server had been ready and ended: see the end of its log, and whether the host is still there",
        )

    def _end_evidence(self, exit_code: int | None) -> str:
        if end := self._first(Weight.END):
            return shown(end.printed)
        return self._tracebacks.unfinished if exit_code is None else f"the server ended with exit code {exit_code}"

    def _nothing(self) -> Verdict:
        """The verdict if no rule has matched a line."""
        if self._untold:
            return Verdict(
                FailureClass.UNKNOWN, "not_recognised", self._untold, "read the text yourself: no rule knows it"
            )
        return Verdict(FailureClass.WARMUP, "nothing_wrong_seen", "", "wait: the text speaks of no failure")

    # ------------------------------------------------------------------ reading

    def _read(self, raw: str) -> None:
        self._number += 1
        if not raw or raw.isspace():
            return
        line = read_line(raw)
        if self._is_log:
            line = self._tracebacks.follow(line)
        if line.dull:
            return
        if self._channel is Channel.STATUS_MSG:
            line = replace(line, container=line.container or container_of_status(line.text))
        self._is_ollama = self._is_ollama or ("source=" in line.text and ".go:" in line.text)
        hang = hang_in(line.text) if self._is_log else None
        if hang:
            line = replace(line, level=Level.ERROR)
        rule = (self._rules_for_chatter if line.level is Level.CHATTER else self._rules).match(line.text)
        found = self._found(line, rule) if rule else None
        self._note_progress(line, found)
        if hang:
            self._note_hang(hang, line, found)
        if found:
            self._take(line, found)
        else:
            self._note_untold(line)

    def _found(self, line: Line, rule: Rule) -> Finding:
        weight = rule.weight
        if weight is Weight.CAUSE and line.level < Level.PLAIN and self._is_log:
            weight = Weight.HINT
        return Finding(self._number, rule, weight, line.printed, line.container, line.process)

    def _take(self, line: Line, found: Finding) -> None:
        if found.weight is not Weight.SIGN:
            blames_workload = found.rule.failure_class is FailureClass.WORKLOAD_FATAL
            if self._is_log and blames_workload and line.level < Level.PLAIN and not found.rule.chatty:
                return  # programs warn of much that the user requested, and start nevertheless
            if found.weight in (Weight.HINT, Weight.SYMPTOM) and (line.level >= Level.PLAIN or not self._is_log):
                self._newest_error[found.container] = self._number
            self._tell(found)
            return
        if found.rule.reason in (signs.GPU_IN_USE, signs.GPU_FOUND):
            self._without_gpu = None
        self._sign = found
        self._newest_sign[found.container] = self._number
        self._stopped_short.discard(found.container)
        if found.rule.reason == signs.OWN_STEP:
            self._ready = None
        if found.rule.failure_class is FailureClass.READY:
            self._ready = found
            self._hangs = False
            self._told = {key: other for key, other in self._told.items() if other.container != found.container}

    def _tell(self, found: Finding) -> None:
        self._told.setdefault((found.container, found.process, found.weight, found.against_machine), found)

    def _note_progress(self, line: Line, found: Finding | None) -> None:
        """Record the progress of the start, and that the process which reports it goes on."""
        progress = progress_of(line.text)
        if progress is None:
            return
        self.progress = progress
        fine = line.level is not Level.ERROR and (found is None or found.weight is Weight.SIGN)
        begun = progress.done > 0 or progress.total == 0  # a bar is drawn again when it is closed
        if self._is_log and fine and begun and progress not in self._seen:
            self._moved = self._number
            self._acquit(line)
        self._seen.add(progress)

    def _acquit(self, line: Line) -> None:
        """Cancel the failures that the process of this line reported before, because it has made progress.

        Findings against the machine become hints.
        """
        for key, found in list(self._told.items()):
            if found.container != line.container or found.process not in ("", line.process):
                continue
            if found.weight is not Weight.HINT or not found.against_machine:
                del self._told[key]
            if found.weight is Weight.CAUSE and found.against_machine:
                self._tell(found._replace(weight=Weight.HINT))

    def _note_hang(self, hang: Hang, line: Line, found: Finding | None) -> None:
        """Record a failure from which a running server does not recover."""
        if not hang.without_gpu:
            self._hangs = True
            self._tell(self._found(line, signs.HUNG))
        elif self._gpu_rented and not (hang.of_library and self._is_ollama):
            before = (found, self._without_gpu, *self._told.values())
            told = [other for other in before if other and other.against_machine]
            default = gpu.SERVES_WITHOUT_GPU if hang.certain else gpu.BUILT_WITHOUT_GPU
            self._without_gpu = min(told, key=lambda other: other.number, default=self._found(line, default))

    def _note_untold(self, line: Line) -> None:
        """Record an error that no rule knows, until the server prints something else."""
        if self._is_log:
            if line.level < Level.PLAIN:
                self._untold = ""
            wrong = line.level is Level.ERROR
        elif self._channel is Channel.STATUS_MSG:
            wrong = bool(_SOUNDS_WRONG.search(line.text))
            if _SAYS_WRONG.match(line.text):
                self._stopped_short.add(line.container)
                self._untold = ""
        else:
            wrong = True
        if wrong and not self._untold:
            self._untold = shown(line.printed)
