"""Builds what a run says of its instances at its end. Pure.

First what failed, for each workload over all its attempts: whose fault, the evidence, what to do, the cost. Then what
became ready only after failures. Then a table of the instances, which does not flood a long run.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from pathlib import Path

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.durations import measured
from pytest_vastgpu.core.text.layout import columns
from pytest_vastgpu.core.text.layout import columns_of
from pytest_vastgpu.core.text.layout import cut_end
from pytest_vastgpu.core.text.layout import cut_middle
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting.sentences import blame
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import decisive
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.reporting.sentences import outcome
from pytest_vastgpu.reporting.sentences import some
from pytest_vastgpu.reporting.sentences import together
from pytest_vastgpu.reporting.sentences import verdict_line

WORKLOAD_CHARS = 40
"""Most characters of a workload in the table."""
SHORT_WORKLOAD_CHARS = 20
"""The same on a narrow terminal."""
MOST_ROWS = 16
"""Most lines of the table, where nobody has asked for more."""
MOST_STORIES = 6
"""Most workloads whose failures are told in full, where nobody has asked for more."""
MOST_ATTEMPTS = 4
"""Most attempts of a workload that are told one by one, where nobody has asked for more."""
TEXT_LINES = 3
"""Most lines of evidence, and of a remedy, where nobody has asked for more."""
_READABLE_COLUMNS = 100
"""Texts are no wider than that: on a wide terminal, long lines are hard to read."""
_NAMES = 15
"""Columns of what stands before a text, such as ``whose fault``."""
_LEAST_NAME = 12
_LOST_IN_WRAPPING = 10
"""Columns that a line may leave empty, since words are kept whole."""


@dataclass(frozen=True)
class Line:
    """One line for a terminal."""

    text: str
    colour: str = ""
    """``red``, ``yellow``, or empty."""


@dataclass(frozen=True)
class Row:
    """What is told of one instance."""

    workload: str
    attempt: int
    """1 for the first attempt of its workload."""
    instance_id: int
    machine_id: int
    gpu: str
    usd_h: float
    cost_usd: float
    outcome: str
    """``ready``, its verdict, or what else became of it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By the name of the state."""
    verdict: Verdict | None = None
    artifacts: str = ""
    """Directory with what was kept of it; empty if nothing was."""

    @staticmethod
    def of(attempt: Attempt) -> Row:
        """The row of an attempt."""
        offer = attempt.offer
        return Row(
            attempt.workload,
            attempt.number,
            attempt.instance_id,
            offer.machine_id,
            gpus(offer.num_gpus, offer.gpu_name),
            attempt.price_usd_h or offer.price_usd_h,
            attempt.cost_usd,
            outcome(attempt),
            attempt.seconds,
            attempt.verdict,
            attempt.artifacts,
        )

    @property
    def was_ready(self) -> bool:
        """Whether tests could use it."""
        return State.READY.value in self.seconds


def summary(rows: Sequence[Row], width: int, verbosity: int = 0) -> list[Line]:
    """All that is told of the instances of a run.

    :param width: Columns of the terminal.
    :param verbosity: pytest's: below 0 only what failed in the end is told, above 0 all there is.
    """
    stories = [story for story in _stories(rows) if verbosity >= 0 or story.colour == "red"]
    told = len(stories) if verbosity > 0 else MOST_STORIES
    lines = [line for story in stories[:told] for line in story.lines(min(width, _READABLE_COLUMNS), verbosity)]
    if len(stories) > told:
        more = sorted({story.workloads for story in stories[told:]})
        lines.append(Line(cut_end(f"and {len(more)} more, shown with -v: {some(more)}", width), "red"))
    if verbosity < 0 or not rows:
        return lines
    return [*lines, *map(Line, table(rows, width, len(rows) if verbosity > 0 else MOST_ROWS))]


@dataclass(frozen=True)
class _Story:
    """What went wrong, once or in the same way for several workloads."""

    what: str
    """With ``{}`` for the workloads, which are shortened first."""
    workloads: str
    colour: str
    failed: Sequence[Row]
    usd: float

    def lines(self, width: int, verbosity: int) -> Iterator[Line]:
        """It for people, the most important first."""
        cost = f"; {self.usd:.4f} USD"
        room = width - len(cost) - len(self.what) + len("{}")
        names = cut_middle(self.workloads, max(_LEAST_NAME, room - 1), "…")
        yield Line(cut_end(self.what.format(names), width - len(cost)) + cost, self.colour)
        if verbosity < 0:
            yield from _text("what to do", self._decisive.remedy, width, TEXT_LINES)
            return
        most = 0 if verbosity > 0 else TEXT_LINES
        if self.colour == "red":
            verdict = self._decisive
            yield from _text("why", verdict_line(verdict), width, most)
            yield from _text("whose fault", blame(verdict.failure_class), width, most)
            yield from _text("evidence", verdict.evidence, width, most)
            yield from _text("what to do", verdict.remedy, width, most)
        if self.colour != "red" or len({row.verdict for row in self.failed}) > 1:
            shown = len(self.failed) if verbosity > 0 else MOST_ATTEMPTS
            for row in self.failed[:shown]:
                yield from _text(f"attempt {row.attempt}", _on_machine(row), width, most and 2)
            if len(self.failed) > shown:
                yield from _text("", f"and {len(self.failed) - shown} more, shown with -v", width, 1)
        elif len(self.failed) > 1:
            yield from _text("attempts", together(self.failed), width, most)
        kept = [row.artifacts for row in self.failed if row.artifacts]
        if kept:
            yield from _text("kept in", _folders(kept), width, most)

    @property
    def _decisive(self) -> Verdict:
        return decisive(self.failed)


def _stories(rows: Sequence[Row]) -> Iterator[_Story]:
    """What went wrong, the worst first: never ready, lost while in use, ready only after failures."""
    by_workload: dict[str, list[Row]] = {}
    for row in rows:
        by_workload.setdefault(row.workload, []).append(row)
    never: dict[tuple[str, str], list[str]] = {}
    lost: list[_Story] = []
    late: list[_Story] = []
    for workload, tried in by_workload.items():
        failed = [row for row in tried if row.verdict and not row.was_ready]
        ready = [row for row in tried if row.was_ready]
        if failed and not ready:
            verdict = decisive(failed)
            never.setdefault((verdict_line(verdict), verdict.remedy), []).append(workload)
        elif failed:
            what = f"{{}}: ready at attempt {ready[0].attempt}, after {count(len(failed), 'failure')}"
            late.append(_Story(what, workload, "yellow", failed, sum(row.cost_usd for row in failed)))
        for row in ready:
            if row.verdict:
                what = f"instance {row.instance_id} ({{}}) was lost in use"
                lost.append(_Story(what, workload, "red", [row], row.cost_usd))
    for names in never.values():
        failed = [row for name in names for row in by_workload[name]]
        what = f"no instance became ready for {{}} ({count(len(failed), 'attempt')})"
        usd = sum(row.cost_usd for row in failed)
        yield _Story(what, some(names), "red", [row for row in failed if row.verdict], usd)
    yield from lost
    yield from late


def _on_machine(row: Row) -> str:
    verdict = row.verdict
    if verdict is None:
        return f"machine {row.machine_id}: {row.outcome}"
    seen = verdict.evidence.strip().partition("\n")[0]
    return f"machine {row.machine_id}: {verdict_line(verdict)}{f': {seen}' if seen else ''}"


def _folders(paths: Sequence[str]) -> str:
    """``vast-artifacts/ab12/1, 2, 3``: directories beside each other."""
    first, *others = map(Path, dict.fromkeys(paths))
    if all(other.parent == first.parent for other in others):
        return ", ".join([str(first), *(other.name for other in others)])
    return some([str(first), *map(str, others)])


def _text(name: str, text: str, width: int, most: int) -> Iterator[Line]:
    """A named text in as few lines as it takes; at most that many, where ``most`` is not 0."""
    room = max(20, width - _NAMES)
    given = " ".join(sanitize.line(text).split())
    # A text of wide characters takes more columns than textwrap counts.
    room -= room * (columns_of(given) - len(given)) // max(1, columns_of(given))
    if most:
        given = cut_middle(given, most * (room - _LOST_IN_WRAPPING))
    wrapped = textwrap.wrap(given, room, break_long_words=False, break_on_hyphens=False)
    if most and len(wrapped) > most:  # an address or a path is as long as it is
        wrapped = [*wrapped[: most - 1], cut_end(" ".join(wrapped[most - 1 :]), room)]
    for number, line in enumerate(wrapped):
        yield Line(f"  {name if not number else '':{_NAMES - 2}}{line}")


def _step(*states: State) -> Callable[[Row], str]:
    """A function that shows the seconds which an instance spent in some states together."""
    return lambda row: measured(sum(row.seconds.get(state.value, 0.0) for state in states), 1)


COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "machine": lambda row: str(row.machine_id),
    "GPU": lambda row: row.gpu,
    "USD/h": lambda row: f"{row.usd_h:.3f}",
    "boot": _step(State.CREATED, State.BOOTING),
    "check": _step(State.REACHABLE),
    "warm-up": _step(State.CHECKED, State.WARMING),
    "ready": _step(State.READY),
    "cost USD": lambda row: f"{row.cost_usd:.4f}",
    "workload": lambda row: cut_middle(row.workload, WORKLOAD_CHARS, "…"),
    "outcome": lambda row: row.outcome,
}
"""The columns of the table, by their headings."""
EXPENDABLE = ("check", "GPU", "USD/h", "boot", "warm-up", "workload")
"""The columns that a narrow terminal does without, the least important first; before them that of the workload where
there is only one.
"""


def table(rows: Sequence[Row], width: int, most: int) -> list[str]:
    """The table: one line for each instance, those that failed first where not all are shown.

    :param width: In columns. First columns are left out, then the ends of lines.
    """
    if len(rows) <= most:
        shown, rest = list(rows), []
    else:
        ordered = sorted(rows, key=lambda row: row.verdict is None)
        shown, rest = ordered[: most - 1], ordered[most - 1 :]
    expendable = sorted(EXPENDABLE, key=lambda each: each != "workload" or len({row.workload for row in shown}) > 1)
    for step in range(len(expendable) + 2):
        headings = [each for each in COLUMNS if each not in expendable[: max(0, step - 1)]]
        short = [
            replace(row, workload=cut_middle(row.workload, SHORT_WORKLOAD_CHARS, "…")) if step else row for row in shown
        ]
        lines = columns(headings, [[COLUMNS[each](row) for each in headings] for row in short])
        if max(map(columns_of, lines)) <= width:
            break
    if rest:
        usd = sum(row.cost_usd for row in rest)
        fates = ", ".join(f"{number} {fate}" for fate, number in Counter(row.outcome for row in rest).most_common(3))
        lines.append(f"and {len(rest)} more, shown with -v: {fates}; {usd:.4f} USD")
    return [cut_end(line, width) for line in lines]


def total(rows: Sequence[Row]) -> str:
    """The heading: the number of instances, how many of them failed, and their total cost."""
    rented = [row for row in rows if row.instance_id]
    failed = sum(bool(row.verdict) for row in rented)
    cost = sum(row.cost_usd for row in rented)
    return f"{count(len(rented), 'instance')}{f' ({failed} failed)' if failed else ''}, {cost:.4f} USD"


def dearest(tests: Mapping[str, Decimal] | Mapping[str, float], most: int = 5) -> list[str]:
    """The most expensive tests, one line each: ``0.000123 USD  test_it.py::test_it``.

    :param tests: USD by node id, the most expensive first.
    """
    return [f"{usd:.6f} USD  {test}" for test, usd in islice(tests.items(), most)]
