"""Turns a run into one on hosts, before anything else has decided where its tests run."""

from __future__ import annotations

import os

import pytest

from pytest_vastgpu.plugin.options import resolve_hosts


def use_hosts(config: pytest.Config) -> None:
    """Have the selected tests run on rented hosts.

    :raises pytest.UsageError: one line: what is asked for cannot be done.
    """
    settings = resolve_hosts(config.getoption, config.getini, os.environ)
    if not settings.hosts or config.getoption("collectonly", False):
        return
    if not config.pluginmanager.has_plugin("xdist"):
        raise pytest.UsageError(
            "--vast-hosts needs pytest-xdist, which is not installed: pip install 'pytest-vastgpu[hosts]'"
        )
    if config.getoption("numprocesses", None) or config.getoption("tx", None):
        raise pytest.UsageError("--vast-hosts and -n (or --tx) exclude each other: say --vast-workers-per-host")
    from pytest_vastgpu.plugin.on_host import schedules
    from pytest_vastgpu.plugin.on_host.session import HostSession

    if config.option.dist == "no":
        config.option.dist = schedules.DEFAULT
    schedules.may_distribute(config.option.dist)
    config.pluginmanager.register(HostSession(config, settings), "dsession")
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter:
        reporter.showfspath = False
