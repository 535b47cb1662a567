"""pytest's hooks and the fixtures. What a run that rents nothing pays for is all in here: keep it light."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.options import Settings
from pytest_vastgpu.options import add_options
from pytest_vastgpu.options import resolve

if TYPE_CHECKING:
    from types import ModuleType

    from pytest_vastgpu.collected import Collected
    from pytest_vastgpu.lifecycle.instance import Desk
    from pytest_vastgpu.lifecycle.instance import VastInstance
    from pytest_vastgpu.model import Workload

_settings = pytest.StashKey[Settings]()
_desk = pytest.StashKey["Desk"]()

_ONLY_SHOWS = ("collectonly", "setupplan", "showfixtures", "show_fixtures_per_test")
"""pytest's options with which it sets nothing up."""
MARKER = (
    "vast(workload=None, *, image, gpus, gpu_name, gpu_ram_gb, compute_cap, cuda, disk_gb, image_gb, model_gb, "
    "warmup_s, expected_use_s): what the test needs rented; without a workload it changes that of the fixture "
    "vast_workload"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks of others."""
    from pytest_vastgpu import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Decide every option, before anything else."""
    config.addinivalue_line("markers", MARKER)
    try:
        settings = resolve(config.getoption, config.getini, os.environ)
    except _errors().ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_settings] = settings
    distributes = config.pluginmanager.has_plugin("xdist") and config.getoption("dist", "no") != "no"
    if distributes and not hasattr(config, "workerinput"):
        from pytest_vastgpu.xdist import Controller

        config.pluginmanager.register(Controller(config, settings), "vastgpu-controller")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What was asked for, and who asked."""
    return config.stash[_settings].header()


def _errors() -> ModuleType:
    """The exceptions of this package, which are loaded when the first one is on its way."""
    from pytest_vastgpu import errors

    return errors


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """See what the selected tests need; where it is nothing, that is all this plugin ever does."""
    config = session.config
    if any(config.getoption(option, False) for option in _ONLY_SHOWS) or not any(
        "vast_instance" in name for item in session.items for name in getattr(item, "fixturenames", ())
    ):
        return
    from pytest_vastgpu.collected import collect
    from pytest_vastgpu.reporting.report import Reports

    collected = collect(session.items, certain=_tests_will_run(session))
    desk = config.stash[_desk] = _open_desk(config, collected)
    config.pluginmanager.register(Reports(config.stash[_settings].on_infra_failure), "vastgpu-reports")
    config.pluginmanager.register(_Done(desk), "vastgpu-done")


def _tests_will_run(session: pytest.Session) -> bool:
    """Whether what was collected is going to be run, with all that it needs."""
    option = session.config.getoption
    broken = session.testsfailed and not option("continue_on_collection_errors", False)
    return not broken and not option("setuponly", False)


class _Done:
    """Plugin object of a process in which tests may use instances: says when they no longer do."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @pytest.hookimpl(tryfirst=True)  # before anybody else hears that the test is over
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        with suppress(_errors().VastGpuError):  # the owner is gone, and everything with it
            self._desk.done(nodeid)


def _open_desk(config: pytest.Config, collected: Collected) -> Desk:
    """Where this process asks for instances: the owner itself, or, in a worker, a line to it."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        from pytest_vastgpu.lifecycle.line import LineDesk
        from pytest_vastgpu.xdist import LINE_KEY

        line = LineDesk(*workerinput[LINE_KEY])
        config.add_cleanup(line.close)
        line.call("collected", collected)
        return line
    from pytest_vastgpu.owner import Owner

    if collected.problems:
        raise pytest.UsageError(*collected.problems)
    owner = Owner(config, config.stash[_settings], distributed=False)
    owner.expect(collected, workers=1)
    config.pluginmanager.register(owner, "vastgpu-owner")
    return owner.broker


@pytest.fixture
def vast_workload() -> Workload:
    """The workload of tests whose marker names none. Override it in a conftest file or a test module.

    An override without arguments is also called when collection ends, so that renting can start before the first test
    asks: keep it free of side effects. One that asks for other fixtures, yields or has parameters is left to the tests.
    """
    pytest.fail(
        "this test needs an instance, but nothing says what shall run on it: mark it "
        "@pytest.mark.vast(vllm('org/model')), or define a fixture vast_workload that returns a workload",
        pytrace=False,
    )


@pytest.fixture
def vast_instance(request: pytest.FixtureRequest) -> VastInstance:
    """A rented instance on which the workload's server is ready. Tests with equal workloads share it."""
    from dataclasses import replace

    from pytest_vastgpu.marks import marked

    workload, changes = marked(request.node)
    workload = replace(workload or request.getfixturevalue("vast_workload"), **changes)
    return _acquire(request.node, workload, exclusive=False)


@pytest.fixture
def vast_instance_factory(request: pytest.FixtureRequest) -> Callable[[Workload], VastInstance]:
    """A function that rents an instance of one's own for a workload; given back when the test is over."""

    def rent(workload: Workload) -> VastInstance:
        return _acquire(request.node, workload, exclusive=True)

    return rent


def _acquire(item: pytest.Item, workload: Workload, *, exclusive: bool) -> VastInstance:
    from pytest_vastgpu.errors import ProvisioningFailed
    from pytest_vastgpu.errors import VastGpuError
    from pytest_vastgpu.lifecycle.afterwards import machines_failed
    from pytest_vastgpu.lifecycle.clock import Cancelled
    from pytest_vastgpu.lifecycle.instance import VastInstance
    from pytest_vastgpu.reporting.report import hold

    desk = item.config.stash.get(_desk, None)
    if desk is None:
        pytest.fail(
            "no test was seen at collection to ask for an instance: name the fixture among the test's arguments, or in "
            "@pytest.mark.usefixtures, where request.getfixturevalue asks for it later",
            pytrace=False,
        )
    try:
        lease = desk.acquire(item.nodeid, workload, exclusive)
    except VastGpuError as error:
        problem, excused = str(error), isinstance(error, ProvisioningFailed) and machines_failed(error.attempts)
    except Cancelled:
        problem, excused = "the run is ending", False
    else:
        instance = VastInstance(desk, lease)
        hold(item, instance)
        return instance
    if excused and item.config.stash[_settings].on_infra_failure == "skip":
        pytest.skip(problem)
    # Not within the handler: pytest would show the handled exception as well.
    pytest.fail(problem, pytrace=False)
