"""The pytest hooks and the fixtures: the module behind pytest's entry point.

Every run loads this module, whether it rents or not. So the module only checks whether the run needs an instance; the
code for that case is in other modules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.plugin import hookspecs
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.options import add_options
from pytest_vastgpu.plugin.options import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vastgpu.client.instance import VastInstance
    from pytest_vastgpu.model import Workload


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options and this package's hooks."""
    add_options(parser)
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Decide the value of every option before anything else."""
    config.addinivalue_line("markers", _marker_help(config))
    config.stash[SETTINGS] = resolve(config.getoption, config.getini, os.environ)
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        from pytest_vastgpu.plugin.xdist import XdistController

        config.pluginmanager.register(XdistController(config), "vastgpu-xdist")


def _marker_help(config: pytest.Config) -> str:
    if not config.getoption("markers", False):
        return "vast(workload=None, **fields)"  # enough for --strict-markers: the field names would load the model
    from pytest_vastgpu.plugin.marks import help_line

    return help_line()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The options of this run, each with its source."""
    return config.stash[SETTINGS].header()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Check whether a selected test needs an instance. If no test does, the plugin does nothing more."""
    if _is_marked(session):
        from pytest_vastgpu.plugin.unasked import watch_marks

        watch_marks(session)
    for item in session.items:
        if "vast_instance" in " ".join(getattr(item, "fixturenames", ())):
            from pytest_vastgpu.plugin.leases import open_leases

            open_leases(session)
            return


def _is_marked(session: pytest.Session) -> bool:
    """Whether a selected test, or its class or module, has the mark. Each class and module is looked at once."""
    nodes = {item.parent for item in session.items if item.parent is not None}
    return any("vast" in node.keywords for node in nodes) or any(
        mark.name == "vast" for item in session.items for mark in item.own_markers
    )


@pytest.fixture
def vast_workload() -> Workload:
    """The workload of tests whose marker names none. Override it in a conftest file or a test module.

    pytest also calls an override without arguments when collection ends, so that renting can start before the first
    test runs: keep it free of side effects. An override that uses other fixtures, yields or has parameters runs only
    with its tests.
    """
    pytest.fail(
        "this test needs an instance, but nothing says what shall run on it: mark it "
        "@pytest.mark.vast(vllm('org/model')), or define a fixture vast_workload that returns a workload",
        pytrace=False,
    )


@pytest.fixture
def vast_instance(request: pytest.FixtureRequest) -> VastInstance:
    """A rented instance on which the workload's server is ready. Tests with equal workloads share it."""
    from pytest_vastgpu.plugin.leases import shared

    return shared(request)


@pytest.fixture
def vast_instance_factory(request: pytest.FixtureRequest) -> Callable[[Workload], VastInstance]:
    """A function that rents an instance for this test alone; it is given back when the test is over."""
    from pytest_vastgpu.plugin.leases import owned

    return owned(request)
