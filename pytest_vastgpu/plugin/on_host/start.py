"""Turns a run into one on hosts, before anything else has decided where its tests run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.plugin.on_host import arguments
from pytest_vastgpu.plugin.on_host.conflicts import NOTES
from pytest_vastgpu.plugin.on_host.conflicts import refuse
from pytest_vastgpu.plugin.on_host.conflicts import refuse_debugger
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.options import resolve_hosts
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import HostSettings

if TYPE_CHECKING:
    from pytest_vastgpu.model import Workload

_ONLY_SHOWS = ("collectonly", "setupplan", "showfixtures", "show_fixtures_per_test", "markers", "cacheshow")
"""The options with which pytest runs no test: it shows something, and that is at home."""


class Hosts:
    """Plugin object of a run that names hosts."""

    def __init__(self) -> None:
        self._settings: HostSettings | None = None

    def look_early(self, config: pytest.Config) -> None:
        """Check what other plugins refuse before :meth:`decide`, with a remedy that is none here.

        :raises pytest.UsageError: one line: a debugger is asked for.
        """
        settings = resolve_hosts(config.getoption, config.getini, os.environ)
        if settings.hosts and not _only_shows(config):
            refuse_debugger(config, settings)

    def decide(self, config: pytest.Config) -> bool:
        """Decide whether the selected tests run on hosts: not without any, nor where no test is run.

        :raises pytest.UsageError: one line: what is asked for cannot be done.
        """
        settings = resolve_hosts(config.getoption, config.getini, os.environ)
        if not settings.hosts:
            _refuse_alone(settings)
            return False
        if _only_shows(config):
            return False
        config.stash[NOTES] = refuse(config, settings, config.stash[SETTINGS])
        arguments.check(config)
        self._settings = settings
        return True

    def workloads(self, config: pytest.Config) -> dict[str, Workload] | None:
        """What would be rented, for a plan, by the names of the hosts; None if tests do not run on hosts.

        :raises pytest.UsageError: one line: it cannot be rented, or is not known.
        """
        if self._settings is None:
            return None
        from pytest_vastgpu.plugin.on_host.hosts import workloads

        return workloads(self._settings, config)

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the place of xdist's session. Only now: pytest's terminal reporter, which it needs, is there."""
        if self._settings is None or config.getoption("vast_plan") or config.getoption("vast_plan_json"):
            return
        from pytest_vastgpu.plugin.on_host import schedules
        from pytest_vastgpu.plugin.on_host.kept import KeptHosts
        from pytest_vastgpu.plugin.on_host.session import HostSession

        if config.option.dist == "no":
            config.option.dist = schedules.DEFAULT
        config.pluginmanager.register(HostSession(config, self._settings), "dsession")
        if config.stash[SETTINGS].keep.when == "failed":
            config.pluginmanager.register(KeptHosts(), "vastgpu-kept")
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if reporter:
            reporter.showfspath = False


def _only_shows(config: pytest.Config) -> bool:
    return any(config.getoption(option, False) for option in _ONLY_SHOWS)


def _refuse_alone(settings: HostSettings) -> None:
    """An option for hosts on the command line means nothing without hosts; elsewhere it is for the runs that have some.

    :raises pytest.UsageError: there is one.
    """
    alone = [option.flag for option in HOST_OPTIONS if settings.sources[option.field] == "command line"]
    if alone and settings.sources["hosts"] != "command line":
        raise pytest.UsageError(
            f"{alone[0]} is for tests that run on rented hosts: say how many, such as --vast-hosts=1, or leave it out"
        )
