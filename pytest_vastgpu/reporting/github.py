"""What a run shows on GitHub: a job's summary, in Markdown, and annotations, which are commands to a workflow. Pure.

A host's fault never reads as a failed test: it is a warning, and the table says whose fault it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.core.text.layout import cut_middle
from pytest_vastgpu.model import State
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.markdown import code
from pytest_vastgpu.reporting.markdown import table
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import TestReport
from pytest_vastgpu.reporting.sentences import count

SUMMARY_BYTES = 1 << 20
"""GitHub rejects the summary of a step that is longer."""
MOST_ROWS = 200
"""Of a table."""
MOST_OF_A_LEVEL = 10
"""GitHub shows so many annotations of each level for a step."""
_OF_TESTS = ("Test", "Outcome", "Whose fault", "Verdict", "Evidence", "What to do")
_OF_INSTANCES = ("Instance", "Machine", "GPU", "USD/h", "Until ready", "USD", "Workload", "Outcome")
_MESSAGE_CHARS = 1500
_EVIDENCE_CHARS = 600


class Level(StrEnum):
    """How serious an annotation is."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True)
class Annotation:
    """A note at a line of a file, or of the run as a whole."""

    level: Level
    title: str
    message: str
    file: str = ""
    """Relative to the root of the repository; empty: of the run as a whole."""
    line: int = 0

    def command(self) -> str:
        """The command to the workflow, in a line: ``::error file=test_it.py,line=3,title=…::…``."""
        at = {"file": self.file, **({"line": str(self.line)} if self.line else {})} if self.file else {}
        given = {**at, "title": sanitize.line(self.title, 200)}
        properties = ",".join(f"{name}={_data(value, ':,')}" for name, value in given.items())
        return f"::{self.level.value} {properties}::{_data(cut_middle(self.message, _MESSAGE_CHARS))}"


def _data(text: str, more: str = "") -> str:
    """A text that ends neither the command nor a property of it, and begins no other one.

    :param more: Further characters that have a meaning where it stands.
    """
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def worth_telling(run: RunReport, alive: Sequence[Alive]) -> bool:
    """Whether a run has anything to show: it rented something, or wanted to."""
    return bool(run.instances or run.tests or alive)


def troubled(run: RunReport) -> list[TestReport]:
    """The tests that have no result of their own, or a bad one: those first that only a person can mend."""
    found = [test for test in run.tests if test.bad or (test.outcome == "skipped" and test.verdict is not None)]
    return sorted(found, key=lambda test: (_level(test) is not Level.ERROR, test.outcome == "skipped"))


def _level(test: TestReport) -> Level:
    if test.verdict is not None and test.verdict.known_class.blames_machine:
        return Level.NOTICE if test.outcome == "skipped" else Level.WARNING
    return Level.ERROR


def _blame(test: TestReport) -> str:
    return test.blame.partition(";")[0]


def _evidence(test: TestReport) -> str:
    said = test.verdict.evidence if test.verdict is not None else ""
    return said or test.message.partition("\n")[0]


# --------------------------------------------------------------- annotations


def chosen(
    tests: Sequence[TestReport], alive: Sequence[Alive], places: Mapping[str, tuple[str, int]]
) -> list[Annotation]:
    """The annotations of a run, as many as GitHub shows: what costs money first, then tests in their order.

    :param tests: Those of :func:`troubled` that no other plugin annotates.
    :param places: File and line of each test.
    """
    found = [_of_alive(each) for each in alive]
    found += [_of_test(test, *places.get(test.nodeid, ("", 0))) for test in tests]
    kept: list[Annotation] = []
    for level in Level:
        of_level = [each for each in found if each.level is level]
        if len(of_level) > MOST_OF_A_LEVEL:
            of_level = of_level[: MOST_OF_A_LEVEL - 1]
            more = sum(each.level is level for each in found) - len(of_level)
            text = "GitHub shows ten annotations of a kind for a step; the job's summary and the log have all of them."
            of_level.append(Annotation(level, f"vastgpu: {more} more", text))
        kept += of_level
    return kept


def _of_alive(alive: Alive) -> Annotation:
    level = Level.NOTICE if alive.wanted else Level.ERROR
    return Annotation(level, f"vastgpu: {alive.what} goes on costing money", alive.sentence(utc=True))


def _of_test(test: TestReport, file: str, line: int) -> Annotation:
    level = _level(test)
    if test.verdict is None:
        return Annotation(Level.ERROR, f"{test.nodeid} failed", test.message or "it failed", file, line)
    said = [
        f"{test.nodeid} has no result: {test.verdict}"
        if test.outcome != "failed"
        else f"{test.nodeid}: {test.verdict}",
        f"whose fault: {_blame(test)}",
        *([f"evidence: {cut_middle(test.verdict.evidence, _EVIDENCE_CHARS)}"] if test.verdict.evidence else []),
        *([f"what to do: {test.verdict.remedy}"] if test.verdict.remedy else []),
    ]
    title = "Not the test's fault" if level is not Level.ERROR else "No instance, no result"
    if test.outcome == "failed":
        title = f"{test.nodeid} failed"
    return Annotation(level, f"{title}: {test.verdict}", "\n".join(said), file, line)


# ------------------------------------------------------------------- summary


def summary(run: RunReport, alive: Sequence[Alive], room: int = SUMMARY_BYTES) -> str:
    """The section of a run in the summary of a job; tables lose their ends where it would be too long.

    :param room: Bytes that it may have; empty where not even the shortest form fits.
    """
    rows = MOST_ROWS
    while True:
        text = _summary(run, alive, rows)
        if len(text.encode()) < room:
            return text
        if not rows:
            return ""
        rows //= 2


def _summary(run: RunReport, alive: Sequence[Alive], rows: int) -> str:
    bad = troubled(run)
    rented = [each for each in run.instances if each.id]
    parts = [f"## pytest-vastgpu: {_headline(run, bad)}", ""]
    parts += _alive(alive, rows)
    play = " of play money" if run.play_money else ""
    budget = f" of at most {run.budget_usd:.2f} USD" if run.budget_usd and not run.play_money else ""
    parts += [
        f"{count(len(rented), 'instance')}, **{run.total_usd:.4f} USD**{play}{budget}, "
        f"needed by {count(len(run.tests), 'test')}; run {code(run.id)}.",
        "",
    ]
    if bad:
        parts += [*table(_OF_TESTS, list(map(_test_row, bad[:rows]))), *_more(len(bad) - rows, "test"), ""]
    if run.instances:
        parts += [
            f"<details><summary>{count(len(run.instances), 'attempt')} to get an instance</summary>",
            "",
            *table(_OF_INSTANCES, list(map(_instance_row, run.instances[:rows]))),
            *_more(len(run.instances) - rows, "attempt"),
            "",
            "</details>",
            "",
        ]
    return "\n".join(parts)


def _headline(run: RunReport, bad: Sequence[TestReport]) -> str:
    """What a reader wants to know first."""
    hosts = sum(_level(test) is not Level.ERROR for test in bad)
    own = len(bad) - hosts
    parts = [f"{count(own, 'test')} failed"] if own else []
    parts += [f"{count(hosts, 'test')} without a result by a host's fault"] if hosts else []
    if not parts:
        passed = sum(test.outcome in ("passed", "xfailed", "xpassed") for test in run.tests)
        other = len(run.tests) - passed
        parts += [f"{count(passed, 'test')} passed"] if passed or not other else []
        parts += [f"{count(other, 'test')} without a result"] if other else []
    if not run.tests:
        parts = ["no test got an instance"]
    if not run.over and not run.running:
        parts.append("the run was broken off")
    elif run.exit_status == 2:
        parts.append("the run was interrupted")
    return ", ".join(parts)


def _alive(alive: Sequence[Alive], rows: int) -> list[str]:
    lines = [f"- **{code(each.fact(utc=True), 1000)}: run {code(each.command)}**" for each in alive[: max(1, rows)]]
    return [*lines, *_more(len(alive) - max(1, rows), "instance", "alive: `vastgpu ls`"), ""] if alive else []


def _more(number: int, thing: str, which: str = "left out here: the log has them") -> list[str]:
    return ["", f"**{count(number, f'more {thing}')} {which}**"] if number > 0 else []


def _test_row(test: TestReport) -> list[str]:
    verdict = test.verdict
    kept_in = f" (kept in {code(test.artifacts)})" if test.artifacts else ""
    return [
        code(test.nodeid),
        test.outcome or "-",
        _blame(test),
        code(str(verdict)) if verdict is not None else "-",
        code(_evidence(test)) + kept_in,
        code(verdict.remedy) if verdict is not None else "-",
    ]


def _instance_row(instance: InstanceReport) -> list[str]:
    ready = next((phase.start for phase in instance.phases if phase.name == State.READY.value), None)
    outcome = code(instance.outcome)
    return [
        str(instance.id or "-"),
        str(instance.machine or "-"),
        code(instance.gpu),
        f"{instance.usd_h:.3f}",
        spoken(ready - instance.phases[0].start) if ready is not None else "-",
        f"{instance.cost_usd:.4f}",
        code(instance.workload),
        f"{outcome} **{instance.still_there}**" if instance.still_there else outcome,
    ]
