"""What this package adds to pytest's report of a test that held an instance."""

from __future__ import annotations

from collections.abc import Generator
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
"""This many lines of the server's log go into the report of a failed test."""

_held = pytest.StashKey[list[VastInstance]]()


def hold(item: pytest.Item, instance: VastInstance) -> None:
    """Note that a test holds an instance, for its reports and its JUnit properties."""
    for name, value in instance.headers.items():
        if looks_secret(name):
            KNOWN.add("instance key", value.rpartition(" ")[2])  # of "Bearer …"
    item.stash.setdefault(_held, []).append(instance)
    item.user_properties += [(name, sanitize.clean(value)) for name, value in instance.properties()]


def add_costs(item: pytest.Item, held: Sequence[VastInstance]) -> None:
    """Add to a test's JUnit properties what it has cost, and what its instances have cost by now.

    :raises pytest_vastgpu.errors.VastGpuError: if the supervisor no longer answers.
    """
    item.user_properties.append(("vast_cost_usd", round(held[0].spent_by(item.nodeid), 9)))
    item.user_properties += [("vast_instance_cost_usd", round(instance.cost_so_far, 9)) for instance in held]


class ReportHooks:
    """Plugin object of every process that runs tests which may hold instances.

    :param on_infra_failure: What becomes of a test whose instance was lost: ``error`` or ``skip``.
    """

    def __init__(self, on_infra_failure: str) -> None:
        self._skip = on_infra_failure == "skip"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Where a test failed, add what the server said; where its instance is gone, say so; at its end, its cost."""
        held = item.stash.get(_held, None)
        if held and call.when == "teardown":
            with suppress(VastGpuError):  # as below
                add_costs(item, held)
        report = yield
        if held and report.failed:
            # The owner may be gone with everything it could tell; the test's own failure stands then.
            with suppress(VastGpuError):
                lost = explain_failure(report, held)
                if lost and self._skip:
                    report.outcome = "skipped"
                    report.longrepr = (str(item.path), item.location[1] or 0, lost)
        hide_secrets(report)
        return report

    def pytest_configure(self, config: pytest.Config) -> None:
        """Called at once for a plugin that comes late."""
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self) -> None:
        """With ``--full-trace`` the terminal shows what the interrupted frames were called with: it has it by now."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        hide_in(getattr(reporter, "_keyboardinterrupt_memo", None))

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        """An error that no test is to blame for is shown with its frames, too."""
        hide_in(excrepr)


def explain_failure(report: pytest.TestReport, held: Sequence[VastInstance]) -> str:
    """Add the instances and the end of their servers' logs to a failed report.

    Where an instance turns out to have gone away, the failure becomes an error of infrastructure: pytest calls a
    report an error, not a failure, when it is not of the phase ``call``.

    :returns: what a machine's own loss has done to the test, in words; empty where no machine is to blame.
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
