"""What servers have printed for a test, as its ``system-out`` in a JUnit file, where pytest's settings ask for that.

pytest writes into ``system-out`` the sections of a test's report whose name begins as that of captured output: those of
the teardown's report, or, with ``junit_log_passing_tests = false``, those of a call that has failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.layout import bounded
from pytest_vastgpu.errors import VastGpuError

NAME = "Captured stdout of the server (vastgpu)"
LOG_CHARS = 20_000
"""Most characters of one server; a longer log loses its middle."""
_WITH_STDOUT = frozenset({"system-out", "out-err", "all"})

_log = pytest.StashKey[str]()


def read(item: pytest.Item, report: pytest.TestReport, held: Sequence[VastInstance]) -> None:
    """Read the logs of a test whose call is over, or whose setup has failed, if the JUnit file shall have them."""
    over = report.when == "call" or report.failed
    if report.when == "teardown" or not over or not _asked(item.config):
        return
    with suppress(VastGpuError, Cancelled):  # the supervisor is gone: that is told elsewhere
        item.stash[_log] = "\n".join(map(_told, held))
        if report.when == "call" and report.failed and not item.config.getini("junit_log_passing_tests"):
            # It is shown once: in the part of the report that the file has.
            report.sections = [each for each in report.sections if not each[0].startswith("vastgpu server log")]
            _add(report, item.stash[_log])


def show(item: pytest.Item, report: pytest.TestReport) -> None:
    """Give the report of a test's teardown what was read."""
    if (log := item.stash.get(_log, "")) and item.config.getini("junit_log_passing_tests"):
        _add(report, log)


def forget(item: pytest.Item) -> None:
    """The test is tried again."""
    item.stash[_log] = ""


def _asked(config: pytest.Config) -> bool:
    return bool(config.getoption("xmlpath", None)) and config.getini("junit_logging") in _WITH_STDOUT


def _told(instance: VastInstance) -> str:
    log = bounded(sanitize.block(instance.logs_since(instance.mark)), LOG_CHARS)
    return f"--- server log of instance {instance.id} since the test got it ---\n{log}"


def _add(report: pytest.TestReport, log: str) -> None:
    begun = report.capstdout and not report.capstdout.endswith("\n")
    report.sections.append((NAME, "\n" * bool(begun) + log))
