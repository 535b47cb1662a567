"""What a worker on a host says that xdist's own does not: for what comes back, when its run began there and which
``tmp_path`` is whose; and why something in it has ended pytest.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

TMP_PATH = "vastgpu_tmp_path"
"""The attribute of a failed test's report that holds its ``tmp_path`` on the host. No user property: those are in JUnit
files."""
EXIT = "vastgpu_exit"
"""The key of ``workeroutput`` under which stands what ``pytest.exit`` was called with."""
_MADE: pytest.StashKey[str] = pytest.StashKey()


def serve(config: pytest.Config, asked: dict[str, Any]) -> None:
    """Say what is needed for what comes back.

    :param asked: What the controller has asked this worker for: ``since``, a file that is made when the first worker of
        a run begins on this host, and ``tmp_path``, whether reports shall have it.
    """
    since = Path(asked["since"])
    since.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(since, os.O_CREAT | os.O_WRONLY))  # one that is there keeps its time
    if asked["tmp_path"]:
        config.pluginmanager.register(_TmpPaths(), "vastgpu-tmp-paths")


class Endings:
    """Plugin object: says why something in this worker has ended pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Say with which words ``pytest.exit`` was called."""
        if isinstance(excinfo.value, pytest.exit.Exception):
            self._config.workeroutput[EXIT] = str(excinfo.value.msg)  # type: ignore[attr-defined] # xdist's

    def pytest_internalerror(self) -> bool:
        """Keep pytest from printing it, too: xdist sends it home."""
        return True


class _TmpPaths:
    """Says in the report of a failed test where its ``tmp_path`` is."""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Note it. A test may have it through another fixture only."""
        made = yield
        if fixturedef.argname == "tmp_path" and isinstance(made, os.PathLike):
            request.node.stash[_MADE] = os.fspath(made)
        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say it. Every attribute of a report is sent along."""
        report = yield
        if report.failed and _MADE in item.stash:
            setattr(report, TMP_PATH, item.stash[_MADE])
        return report
