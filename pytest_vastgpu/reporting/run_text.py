"""Tells of a run that is over, or goes on, on a terminal: what its summary said, from its files. Pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.core.text.layout import cut_end
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting import alive
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import TestReport
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.summary import Line
from pytest_vastgpu.reporting.summary import Row
from pytest_vastgpu.reporting.summary import dearest
from pytest_vastgpu.reporting.summary import summary
from pytest_vastgpu.reporting.summary import total

MOST_TESTS = 12
"""Most failed tests that are listed, where nobody has asked for more."""


def told(report: RunReport, now: float, width: int, verbosity: int = 0) -> list[Line]:
    """A run in words.

    :param now: Epoch seconds.
    :param width: Columns of the terminal.
    :param verbosity: Above 0 all there is.
    """
    rows = [_row(each) for each in report.instances if each.id]
    lines = [*_head(report, rows), *_tests(report.tests, width, verbosity), *summary(rows, width, verbosity)]
    if verbosity > 0:
        usd = {test.nodeid: test.cost_usd for test in report.tests if test.cost_usd}
        lines += map(Line, dearest(dict(sorted(usd.items(), key=lambda each: -each[1]))))
    lines += [
        Line(text, "yellow" if each.wanted else "red") for each in alive.of_run(report, now) for text in each.lines()
    ]
    lines += [Line(each, "yellow") for each in report.missing]
    return lines


def _head(report: RunReport, rows: Sequence[Row]) -> Iterator[Line]:
    fate, colour = _fate(report)
    yield Line(f"run {report.id}: {fate}; {total(rows)}{' of play money' if report.play_money else ''}", colour)
    if report.started:
        took = f", {spoken(report.ended - report.started)}" if report.ended > report.started else ""
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.started))
        yield Line(f"  began        {began}{took}{f', in {report.directory}' if report.directory else ''}")
    if report.command:
        yield Line(f"  command      {report.command}")
    if report.market:
        yield Line(f"  market       {'its own, local' if report.play_money else report.market}")


def _fate(report: RunReport) -> tuple[str, str]:
    if report.over:
        if report.exit_status:
            return f"failed, with exit code {report.exit_status}", "red"
        return "passed", ""
    if report.running:
        return "goes on; this is what is known so far", "yellow"
    return "did not come to its end: it was killed, or its files are not whole", "red"


def _tests(tests: Sequence[TestReport], width: int, verbosity: int) -> Iterator[Line]:
    if not tests:
        return
    outcomes = Counter(test.outcome or "not over" for test in tests)
    said = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    yield Line(f"  tests        {said}, of those that used an instance or got none")
    bad = [test for test in tests if test.bad]
    shown = len(bad) if verbosity > 0 else MOST_TESTS
    for test in bad[:shown]:
        why = str(test.verdict) if test.verdict else test.message.strip().partition("\n")[0]
        text = sanitize.line(f"{test.outcome.upper()} {test.nodeid}{f' - {why}' if why else ''}")
        yield Line(text if verbosity > 0 else cut_end(text, width), "red")
    if len(bad) > shown:
        yield Line(f"and {count(len(bad) - shown, 'other test')} that failed, shown with -v", "red")


def _row(instance: InstanceReport) -> Row:
    found = instance.verdict
    return Row(
        instance.workload or "an unknown workload",
        instance.attempt or 1,
        instance.id,
        instance.machine,
        instance.gpu or "-",
        instance.usd_h,
        instance.cost_usd,
        instance.outcome or "unknown",
        instance.seconds,
        Verdict(found.known_class, found.reason, found.evidence, found.remedy) if found else None,
        instance.artifacts,
    )
