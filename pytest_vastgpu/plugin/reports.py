"""Additions to pytest's report of a test that used an instance: server log, JUnit properties, what became of it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.text.redaction import looks_secret
from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.carried import drop_carried
from pytest_vastgpu.plugin.carried import load
from pytest_vastgpu.plugin.carried import properties_of
from pytest_vastgpu.plugin.redacted_reports import hide_in
from pytest_vastgpu.plugin.redacted_reports import hide_secrets
from pytest_vastgpu.plugin.reporting import explained
from pytest_vastgpu.plugin.reporting import junit_log
from pytest_vastgpu.plugin.reporting.defects import guarded
from pytest_vastgpu.reporting.sentences import offer_line
from pytest_vastgpu.reporting.sentences import verdict_line

LOG_LINES = 40
"""Most lines of a living server's log in the report of a failed test: the last ones since it got the instance."""
SINCE = "vastgpu server log (since the test got the instance)"
"""The name of the report's section with the log."""

_held = pytest.StashKey[list[VastInstance]]()
"""The instances that this try of a test has used."""
_machines = pytest.StashKey[str]()
"""The failure for which machines are to blame, in this try of a test; empty: none."""
_added = pytest.StashKey[list[tuple[str, object]]]()
"""What was added to the test's JUnit properties in this try."""


def hold(item: pytest.Item, instance: VastInstance) -> None:
    """Note that a test uses an instance, for its reports and its JUnit properties."""
    for name, value in instance.headers.items():
        if looks_secret(name):
            KNOWN.add("instance key", value.rpartition(" ")[2])  # of "Bearer …"
    item.stash.setdefault(_held, []).append(instance)
    add(item, ((name, sanitize.clean(value)) for name, value in instance.properties()))


def drop(item: pytest.Item, instance: VastInstance) -> None:
    """Take back that a test uses an instance: what becomes of it says nothing of the test any more."""
    held = item.stash.setdefault(_held, [])
    held[:] = [each for each in held if each is not instance]


def blame_machines(item: pytest.Item, problem: str) -> None:
    """Note that machines are to blame for a failure of a test that is about to follow: it becomes an error.

    :param problem: The text of that failure. A test that catches it may fail for another reason.
    """
    item.stash[_machines] = problem


def forget(item: pytest.Item) -> None:
    """Take back what an earlier try of a test has held: the test is tried again."""
    item.stash.setdefault(_held, []).clear()
    item.stash[_machines] = ""
    added = {id(each) for each in item.stash.get(_added, ())}
    item.user_properties[:] = [each for each in item.user_properties if id(each) not in added]
    item.stash[_added] = []
    drop_carried(item)
    explained.drop(item)
    junit_log.forget(item)


def add(item: pytest.Item, properties: Iterable[tuple[str, object]]) -> None:
    """Add to a test's JUnit properties. What this try has added is taken back where the test is tried again."""
    given = list(properties)
    item.stash.setdefault(_added, []).extend(given)
    item.user_properties += given


def add_costs(item: pytest.Item, held: Sequence[VastInstance]) -> None:
    """Add the cost of a test, and the cost so far of its instances, to the test's JUnit properties.

    :raises pytest_vastgpu.errors.VastGpuError: if the supervisor no longer answers.
    """
    add(item, [("vast_cost_usd", round(held[0].spent_by(item.nodeid), 9))])
    add(item, [("vast_instance_cost_usd", round(instance.cost_so_far, 9)) for instance in held])


class ReportHooks:
    """Plugin object of every process that runs tests which may use instances.

    :param on_infra_failure: The result of a test whose instance was lost: ``error`` or ``skip``.
    """

    def __init__(self, on_infra_failure: str) -> None:
        self._skip = on_infra_failure == "skip"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A test begins, or is tried again."""
        forget(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say what became of the instances of a test that has not passed, and add the cost at the end."""
        held = item.stash.get(_held, None)
        if held and call.when == "teardown":
            with suppress(VastGpuError):  # see below
                add_costs(item, held)
        if call.when == "teardown":
            add(item, properties_of(item))
        known = len(item.user_properties)
        report = yield
        if held:
            self._explain(item, call, report, held)
        with guarded(item.config, "what a JUnit file says of instances"):
            if held:
                junit_log.read(item, report, held)
            if call.when == "teardown":
                add(item, explained.noted(item))
                junit_log.show(item, report)
        if call.when == "teardown":
            report.user_properties += item.user_properties[known:]
            load(report, item)
        if call.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            explained.drop(item)  # it has helped itself
        problem = item.stash.get(_machines, "")
        if problem and report.failed and report.when == "call" and call.excinfo and str(call.excinfo.value) == problem:
            report.when = "setup"  # pytest calls that an error
        hide_secrets(report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Tell the reports of subtests, which are made meanwhile, from that of the test."""
        item.stash[_subtests] = _Subtests()
        try:
            return (yield)
        finally:
            item.stash[_subtests].over = True

    def _explain(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, held: Sequence[VastInstance]
    ) -> None:
        subtests = item.stash.get(_subtests, _Subtests())
        excuse: Excuse | None = None
        if report.failed or hasattr(report, "wasxfail"):
            # The supervisor may be gone and cannot answer; then the test's own result stays as it is.
            with suppress(VastGpuError, Cancelled):
                kept = partial(_note_artifacts, item)
                excuse, fates = explain(report, held, kept, told=_needs_no_log(call))
                for fate in sorted(fates, key=lambda fate: not fate.excuses)[:1]:
                    explained.note(item, explained.Explained.by_fate(fate))
        elif call.when == "call" and subtests.over and not subtests.failed:
            excuse = subtests.excuse  # pytest fails a test whose subtest is an error
        if excuse is not None:
            excuse.apply(report, item, skip=self._skip)
        if not subtests.over:
            subtests.excuse = subtests.excuse or excuse
            subtests.failed = subtests.failed or (report.failed and excuse is None)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Set the configuration; for a plugin that is registered late pytest calls this at once."""
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Hide secrets: with ``--full-trace`` the terminal, which already has the text, shows the frames' arguments."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        hide_in(getattr(reporter, "_keyboardinterrupt_memo", None))

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        """Hide secrets in an internal error, which is also shown with its frames."""
        hide_in(excrepr)


@dataclass
class _Subtests:
    """What the subtests of a test have come to so far."""

    excuse: Excuse | None = None
    failed: bool = False
    """Whether one has failed without an excuse."""
    over: bool = False


_subtests = pytest.StashKey[_Subtests]()


@dataclass(frozen=True)
class Excuse:
    """Why a test's result says nothing about the test: an error of infrastructure takes its place."""

    story: str
    machines: bool
    """Whether a machine is to blame: ``--vast-on-infra-failure`` decides."""

    def apply(self, report: pytest.TestReport, item: pytest.Item, *, skip: bool) -> None:
        """Make a report an error, or a skip. pytest calls a failure an error if its phase is not ``call``."""
        if report.longrepr:
            report.sections.append(("vastgpu the test's own failure", str(report.longrepr)))
        if hasattr(report, "wasxfail"):
            del report.wasxfail
        if skip and self.machines:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, self.story)
            return
        report.outcome = "failed"
        report.longrepr = self.story
        if report.when == "call":
            report.when = "setup"


def _note_artifacts(item: pytest.Item, directory: str) -> None:
    noted = "vast_artifacts", sanitize.line(directory)
    if noted not in item.user_properties:  # more than one phase may fail
        add(item, [noted])


def _needs_no_log(call: pytest.CallInfo[None]) -> bool:
    return call.excinfo is not None and isinstance(call.excinfo.value, ConfigurationError)


def explain(
    report: pytest.TestReport, held: Sequence[VastInstance], kept: Callable[[str], None], *, told: bool = False
) -> tuple[Excuse | None, list[Fate]]:
    """Add to a report what became of the test's instances, and what their servers have printed.

    :param kept: Called with the directory that has a server's whole log.
    :param told: Whether the test's own error says all there is to know, such as of a wrong argument: the log of a
        server that lives would only hide it.
    :returns: What takes the place of the test's own result, None: that stays; and what became of the instances.
    :raises pytest_vastgpu.errors.VastGpuError: if the supervisor no longer answers.
    """
    stories: list[tuple[str, bool]] = []
    fates: list[Fate] = []
    for instance in held:
        fate = instance.fate(instance.mark)
        fates += [fate] if fate is not None else []
        if report.failed or (fate is not None and fate.excuses):
            instance.failed()
        about = [f"{instance!r}, {offer_line(instance.offer)}", instance.restarted]
        report.sections.append(("vastgpu instance", sanitize.block("\n".join(filter(None, about)))))
        if fate is not None and fate.excuses:
            stories.append((_story(fate, instance), fate.verdict.failure_class.blames_machine))
        elif fate is not None:
            report.sections.append(("vastgpu what became of the server", _story(fate, instance)))
        if fate is None and report.failed and not told:
            with suppress(VastGpuError):  # what is known of the instance is told all the same
                file = instance.keep_log(instance.mark)
                report.sections.append((SINCE, _log(instance.logs_since(instance.mark), file)))
                if file:
                    kept(str(Path(file).parent))
        elif fate is not None and fate.log:
            report.sections.append((SINCE, sanitize.block(fate.log)))
    if not stories:
        return None, fates
    return Excuse("\n".join(story for story, _ in stories), all(machines for _, machines in stories)), fates


def _log(since: str, file: str) -> str:
    """What a server that lives has printed during a test, and where the rest is."""
    shown = sanitize.tail(since, LOG_LINES) or "[it has printed nothing since]"
    return f"{shown}\n[all of it, from the server's start on: {sanitize.line(file)}]" if file else shown


def _story(fate: Fate, instance: VastInstance) -> str:
    return sanitize.block(
        f"{fate.what}: {verdict_line(fate.verdict)}\n"
        f"  {offer_line(instance.offer)}: {shown(fate.verdict.evidence)}\n"
        f"  what to do: {fate.verdict.remedy}\n"
        f"  {fate.then}"
    )
