"""pytest's hooks and the fixtures. What a run that rents nothing pays for is all in here: keep it light."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.options import Settings
from pytest_vastgpu.options import add_options
from pytest_vastgpu.options import resolve

if TYPE_CHECKING:
    from pytest_vastgpu.lifecycle.instance import Desk
    from pytest_vastgpu.lifecycle.instance import VastInstance
    from pytest_vastgpu.marks import Collected
    from pytest_vastgpu.model import Workload

_settings = pytest.StashKey[Settings]()
_desk = pytest.StashKey["Desk"]()

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
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_settings] = settings
    if config.pluginmanager.has_plugin("xdist") and not hasattr(config, "workerinput"):
        from pytest_vastgpu.xdist import Controller

        config.pluginmanager.register(Controller(config, settings), "vastgpu-controller")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What was asked for, and who asked."""
    return config.stash[_settings].header()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """See what the selected tests need; where it is nothing, that is all this plugin ever does."""
    config = session.config
    if config.getoption("collectonly", False) or not any(
        "vast_instance" in name for item in session.items for name in getattr(item, "fixturenames", ())
    ):
        return
    from pytest_vastgpu.marks import collect
    from pytest_vastgpu.reporting.report import Reports

    config.stash[_desk] = _open_desk(config, collect(session.items))
    config.pluginmanager.register(Reports(config.stash[_settings].on_infra_failure), "vastgpu-reports")


def _open_desk(config: pytest.Config, collected: Collected) -> Desk:
    """Where this process asks for instances: the owner itself, or, in a worker, a line to it."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        from pytest_vastgpu.lifecycle.line import LineDesk
        from pytest_vastgpu.xdist import SOCKET_KEY

        line = LineDesk(workerinput[SOCKET_KEY])
        config.add_cleanup(line.close)
        line.call("collected", collected)
        return line
    from pytest_vastgpu.owner import Owner

    if collected.problems:
        raise pytest.UsageError(*collected.problems)
    owner = Owner(config, config.stash[_settings], distributed=False)
    owner.expect(collected)
    config.pluginmanager.register(owner, "vastgpu-owner")
    return owner.broker


@pytest.fixture
def vast_workload() -> Workload:
    """The workload of tests whose marker names none. Override it in a conftest file or a test module."""
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
def vast_instance_factory(request: pytest.FixtureRequest) -> Generator[Callable[[Workload], VastInstance]]:
    """A function that rents an instance of one's own for a workload; given back when the test is over."""
    with ExitStack() as stack:

        def rent(workload: Workload) -> VastInstance:
            instance = _acquire(request.node, workload, exclusive=True)
            stack.callback(instance.close)
            return instance

        yield rent


def _acquire(item: pytest.Item, workload: Workload, *, exclusive: bool) -> VastInstance:
    from pytest_vastgpu.lifecycle.afterwards import machines_failed
    from pytest_vastgpu.lifecycle.clock import Cancelled
    from pytest_vastgpu.lifecycle.instance import VastInstance
    from pytest_vastgpu.reporting.report import hold

    desk = item.config.stash[_desk]
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
