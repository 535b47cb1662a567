"""Additions to pytest's report of a test that used an instance: server log, JUnit properties, lost instances."""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import suppress

import pytest

from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.text.redaction import looks_secret
from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.plugin.redacted_reports import hide_in
from pytest_vastgpu.plugin.redacted_reports import hide_secrets
from pytest_vastgpu.reporting.sentences import offer_line
from pytest_vastgpu.reporting.sentences import verdict_line

LOG_LINES = 40
"""Lines of the server's log in the report of a failed test."""

_held = pytest.StashKey[list[VastInstance]]()
"""The instances that this try of a test has used."""
_added = pytest.StashKey[list[tuple[str, object]]]()
"""What was added to the test's JUnit properties in this try."""


def hold(item: pytest.Item, instance: VastInstance) -> None:
    """Note that a test uses an instance, for its reports and its JUnit properties."""
    for name, value in instance.headers.items():
        if looks_secret(name):
            KNOWN.add("instance key", value.rpartition(" ")[2])  # of "Bearer …"
    item.stash.setdefault(_held, []).append(instance)
    _add(item, ((name, sanitize.clean(value)) for name, value in instance.properties()))


def forget(item: pytest.Item) -> None:
    """Take back what an earlier try of a test has held: the test is tried again."""
    item.stash.setdefault(_held, []).clear()
    added = {id(each) for each in item.stash.get(_added, ())}
    item.user_properties[:] = [each for each in item.user_properties if id(each) not in added]
    item.stash[_added] = []


def _add(item: pytest.Item, properties: Iterable[tuple[str, object]]) -> None:
    given = list(properties)
    item.stash.setdefault(_added, []).extend(given)
    item.user_properties += given


def add_costs(item: pytest.Item, held: Sequence[VastInstance]) -> None:
    """Add the cost of a test, and the cost so far of its instances, to the test's JUnit properties.

    :raises pytest_vastgpu.errors.VastGpuError: if the supervisor no longer answers.
    """
    _add(item, [("vast_cost_usd", round(held[0].spent_by(item.nodeid), 9))])
    _add(item, [("vast_instance_cost_usd", round(instance.cost_so_far, 9)) for instance in held])


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
        """Add the server's log to a failed test's report, say if its instance is gone, and add the cost at the end."""
        held = item.stash.get(_held, None)
        if held and call.when == "teardown":
            with suppress(VastGpuError):  # see below
                add_costs(item, held)
        report = yield
        if held and report.failed:
            # The supervisor may be gone and cannot answer; then the test's own failure stays as it is.
            with suppress(VastGpuError):
                lost = explain_failure(report, held)
                if lost and self._skip:
                    report.outcome = "skipped"
                    report.longrepr = (str(item.path), item.location[1] or 0, lost)
        hide_secrets(report)
        return report

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


def explain_failure(report: pytest.TestReport, held: Sequence[VastInstance]) -> str:
    """Add the instances and the end of their servers' logs to a failed report.

    If an instance turns out to be lost, the failure becomes an error of infrastructure: pytest calls a
    report an error, not a failure, if its phase is not ``call``.

    :returns: How the loss of a machine changed the test's result, in words; empty where no machine is to blame.
    :raises pytest_vastgpu.errors.VastGpuError: if the supervisor no longer answers.
    """
    story = ""
    for instance in held:
        instance.failed()
        report.sections.append(("vastgpu instance", sanitize.line(f"{instance!r}, {offer_line(instance.offer)}")))
        verdict = instance.lost()
        if verdict is None:
            log = sanitize.tail(instance.logs(), LOG_LINES)
            report.sections.append(("vastgpu server log (end)", log))
        else:
            report.sections.append(("vastgpu the test's own failure", str(report.longrepr)))
            report.longrepr = sanitize.block(
                f"the instance was lost while the test used it: {verdict_line(verdict)}\n"
                f"  {offer_line(instance.offer)}: {shown(verdict.evidence)}\n"
                f"  what to do: {verdict.remedy}"
            )
            if report.when == "call":
                report.when = "setup"
            if verdict.failure_class is FailureClass.RUNTIME_LOST:
                story = report.longrepr
    return story
