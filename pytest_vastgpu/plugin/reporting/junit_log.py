"""What servers have printed for a test, as its ``system-out`` in a JUnit file.

A test that has not passed has it there always: a dashboard has nothing else to show of a server. pytest's own settings
decide of the others, and of where it stands: with ``junit_logging = system-out`` pytest writes the sections of a test's
report whose name begins as that of captured output, those of the teardown's report, or, with ``junit_log_passing_tests
= false``, those of a call that has failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.layout import bounded
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.carried import Carried
from pytest_vastgpu.plugin.carried import carried
from pytest_vastgpu.plugin.carried import carry
from pytest_vastgpu.plugin.reporting.defects import guarded

NAME = "Captured stdout of the server (vastgpu)"
LOG_CHARS = 20_000
"""Most characters of one server; a longer log loses its middle."""
_WITH_STDOUT = frozenset({"system-out", "out-err", "all"})

_log = pytest.StashKey[str]()


def read(item: pytest.Item, report: pytest.TestReport, held: Sequence[VastInstance]) -> None:
    """Read the logs of a test whose call is over, or whose setup has failed, if the JUnit file shall have them."""
    if report.when == "teardown" or not item.config.getoption("xmlpath", None):
        return
    if not report.failed and (report.when != "call" or not _asked(item.config)):
        return
    with suppress(VastGpuError, Cancelled):  # the supervisor is gone: that is told elsewhere
        item.stash[_log] = "\n".join(map(_told, held))
        if (
            _asked(item.config)
            and report.when == "call"
            and report.failed
            and not item.config.getini("junit_log_passing_tests")
        ):
            # It is shown once: in the part of the report that the file has.
            report.sections = [each for each in report.sections if not each[0].startswith("vastgpu server log")]
            _add(report, item.stash[_log])


def show(item: pytest.Item, report: pytest.TestReport) -> None:
    """Give the report of a test's teardown what was read."""
    if not (log := item.stash.get(_log, "")):
        return
    if not _asked(item.config):
        carry(item, Carried(NAME, log))
    elif item.config.getini("junit_log_passing_tests"):
        _add(report, log)


def forget(item: pytest.Item) -> None:
    """The test is tried again."""
    item.stash[_log] = ""


class JunitLog:
    """Plugin object of the process that writes the file, where pytest's settings have it write no output.

    pytest has no public way to add an element to a test: what it makes the file with is known by what it can do.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)  # then the test has an element still
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what has come with the report of a test's teardown."""
        if not (logs := carried(report, NAME)):
            return
        with guarded(self._config, "a server's log in the JUnit file"):
            from xml.etree.ElementTree import Element

            plugins = self._config.pluginmanager.get_plugins()
            file: Any = next(each for each in plugins if hasattr(each, "node_reporter"))
            element = Element("system-out")
            element.text = "\n".join(logs)
            file.node_reporter(report).append(element)


def _asked(config: pytest.Config) -> bool:
    """Whether pytest writes what tests have printed."""
    return config.getini("junit_logging") in _WITH_STDOUT


def _told(instance: VastInstance) -> str:
    log = bounded(sanitize.block(instance.logs_since(instance.mark)), LOG_CHARS)
    return f"--- server log of instance {instance.id} since the test got it ---\n{log}"


def _add(report: pytest.TestReport, log: str) -> None:
    begun = report.capstdout and not report.capstdout.endswith("\n")
    report.sections.append((NAME, "\n" * bool(begun) + log))
