"""What the page says of a run, in sentences and cells. Pure."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.alive import of_run
from pytest_vastgpu.reporting.page.timeline import STEPS
from pytest_vastgpu.reporting.page.timeline import span
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import OfferReport
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import TestReport
from pytest_vastgpu.reporting.sentences import count

_REMEDIES = 3
_NAMED = 4
_DEAREST = 20


class Cost(NamedTuple):
    """What a test has cost."""

    test: str
    usd: float
    share: float
    """Percent of what the run has cost."""


class Page:
    """The words of the page.

    :param alive: What goes on costing money, from whom it is known more exactly than from the run's files.
    """

    def __init__(self, report: RunReport, alive: Sequence[Alive] = ()) -> None:
        self.report = report
        self._alive = alive

    # ------------------------------------------------------- the first screen

    @cached_property
    def state(self) -> str:
        """What has become of the run: ``failed``, ``passed``, ``running`` or ``broken off``."""
        if self.report.running and not self.report.over:
            return "running"
        if self.report.instances and not self.report.over:
            return "broken off"
        bad = self.report.failed_tests or self.report.exit_status or self.report.left_alive
        return "failed" if bad else "passed"

    @property
    def heading(self) -> str:
        """``2 of 14 tests failed``."""
        bad, tests = len(self.report.failed_tests), len(self.report.tests)
        if not tests and not self.report.instances:
            return "No test of this run needed an instance"
        if self.state == "broken off":
            return f"The run was broken off: {count(bad, 'test')} had failed"
        if self.state == "running":
            return f"The run goes on: {count(bad, 'test')} failed"
        if bad:
            broken = ", and the run was interrupted" if self.report.exit_status == 2 else ""
            return f"{bad} of {count(tests, 'test')} failed{broken}"
        if self.report.exit_status == 2:
            return "The run was interrupted"
        return f"{count(tests, 'test')}, none failed"

    @property
    def none_failed(self) -> str:
        """What is said where no test failed."""
        lost = [each for each in self.report.instances if each.verdict]
        others = f" {count(len(lost), 'attempt')} to get an instance failed; others served." if lost else ""
        return f"No test failed.{others}"

    @property
    def few_failed(self) -> Sequence[tuple[int, TestReport]]:
        """The failed tests that are named on the first screen, with their places."""
        return list(enumerate(self.report.failed_tests, 1))[:_NAMED]

    @cached_property
    def blame(self) -> list[str]:
        """Whose fault it was: a sentence for each kind of failure, the most frequent first."""
        bad = self.report.failed_tests
        ordered = Counter(test.blame for test in bad).most_common()
        return [f"{each} {whose}" if len(ordered) > 1 else whose for whose, each in ordered] or ["Nobody's."]

    @cached_property
    def remedies(self) -> list[str]:
        """What to do."""
        bad = self.report.failed_tests
        found = dict.fromkeys(test.verdict.remedy for test in bad if test.verdict and test.verdict.remedy)
        own = [f"look at the test {short(test.nodeid)}" for test in bad if not test.verdict][:1]
        ends = [f"end what is alive: {each.command}" for each in self.alive]
        told = [*ends[:1], *found, *own]
        more = [f"and {len(told) - _REMEDIES} more, below"] if len(told) > _REMEDIES else []
        return [*told[:_REMEDIES], *more] or ["Nothing."]

    @property
    def cost(self) -> str:
        """What it cost."""
        money = " of play money" if self.report.play_money else ""
        budget = f", {self.report.budget_usd:g} USD allowed" if self.report.budget_usd else ""
        created = sum(bool(each.id) for each in self.report.instances)
        return f"{self.report.total_usd:.4f} USD{money} for {count(created, 'instance')}{budget}."

    @cached_property
    def alive(self) -> list[Alive]:
        """What is still alive."""
        return list(self._alive) or of_run(self.report, self.report.ended)

    @property
    def facts(self) -> list[str]:
        """About the run as a whole."""
        report = self.report
        when = f"{moment(report.started)} to {moment(report.ended)}" if report.started else ""
        lasted = f", {span(report.ended - report.started)}" if report.ended > report.started > 0 else ""
        where = "the local market, which rents out this machine for play money" if report.play_money else report.market
        return [
            *filter(None, [f"{when}{lasted}" if when else "", f"rented from {where}" if where else ""]),
            *report.missing,
        ]

    # ------------------------------------------------------------ the details

    @cached_property
    def dearest(self) -> list[Cost]:
        """Tests by what they cost, the dearest first."""
        total = self.report.total_usd or math.inf
        paid = sorted((test for test in self.report.tests if test.cost_usd), key=lambda test: -test.cost_usd)
        return [Cost(test.nodeid, test.cost_usd, 100 * test.cost_usd / total) for test in paid]

    @property
    def few_dearest(self) -> Sequence[Cost]:
        """Those that are shown at once."""
        return self.dearest[:_DEAREST]

    @property
    def other_tests(self) -> list[TestReport]:
        """The tests that did not fail."""
        return [test for test in self.report.tests if not test.bad]

    def number(self, label: str) -> int:
        """The place of an instance on the page, from 1 on; 0: it has none."""
        return self._numbers.get(label, 0)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {each.label: at for at, each in enumerate(self.report.instances, 1)}

    def at(self, moment_s: float) -> str:
        """A moment as seconds since the run began."""
        return span(moment_s - self.report.started) if moment_s and self.report.started else ""

    def used_by(self, test: TestReport) -> list[int]:
        """The places of the instances that a test has used."""
        return [at for label in test.instances if (at := self.number(label))]


def short(nodeid: str) -> str:
    """A test without its directories."""
    path, found, name = nodeid.partition("::")
    return f"{path.rpartition('/')[2]}{found}{name}"


def moment(at: float) -> str:
    """``2026-11-29 14:03:22 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def instance_name(instance: InstanceReport) -> str:
    """``instance 4711 on machine 42 (RTX 4090)``."""
    what = f"instance {instance.id}" if instance.id else f"attempt {instance.number}, never created"
    where = f" on machine {instance.machine}" if instance.machine else ""
    return f"{what}{where}{f' ({instance.gpu})' if instance.gpu else ''}"


def outcome(instance: InstanceReport) -> str:
    """What became of it."""
    lost = "lost: " if instance.lost else ""
    return f"{lost}{instance.outcome or 'unknown'}"


def steps(instance: InstanceReport) -> list[tuple[str, str]]:
    """How long each step took."""
    idle = sum(phase.end - phase.start for phase in instance.idle)
    found = [(STEPS.get(name, name), span(took)) for name, took in instance.seconds.items()]
    return [*found, *([("of which no test used it", span(idle))] if idle else [])]


def offer_cells(offer: OfferReport) -> Iterable[str]:
    """An offer in the cells of a table."""
    expected = f"{offer.expected_usd:.4f} USD, {span(offer.expected_s)}, {offer.chance:.0%}" if offer.chance else ""
    return (
        f"{offer.machine}" if offer.machine else "",
        offer.gpu,
        f"{offer.usd_h:.3f}",
        offer.where,
        expected,
        "rented" if offer.taken else ", ".join(offer.why_not) or "admitted, not taken",
    )
