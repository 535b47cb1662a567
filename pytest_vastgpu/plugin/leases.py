"""Requests instances for the tests of this process. Loaded only if a selected test needs one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.client.rpc_client import RpcClient
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.environment import API_KEY
from pytest_vastgpu.core.environment import IMAGE_LOGIN
from pytest_vastgpu.core.environment import image_login
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.collection import collect
from pytest_vastgpu.plugin.collection import hooks_of
from pytest_vastgpu.plugin.collection import with_whole_paths
from pytest_vastgpu.plugin.marks import marked
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.reports import ReportHooks
from pytest_vastgpu.plugin.reports import hold

_leases = pytest.StashKey[Leases]()
_asked = pytest.StashKey[bool]()
"""Whether a test has requested an instance."""

_ONLY_SHOWS = ("collectonly", "setupplan", "showfixtures", "show_fixtures_per_test")
"""The options with which pytest sets up no fixture."""


def open_leases(session: pytest.Session) -> None:
    """Find out what the selected tests need, and report it to the supervisor."""
    config = session.config
    if any(config.getoption(option, False) for option in _ONLY_SHOWS):
        return
    KNOWN.add_variable(API_KEY)
    KNOWN.add_login(IMAGE_LOGIN, image_login(os.environ))
    collected = collect(session.items, certain=_tests_will_run(session))
    collected.hooks = hooks_of(config)
    leases = config.stash[_leases] = _open(config, collected)
    config.pluginmanager.register(ReportHooks(config.stash[SETTINGS].on_infra_failure), "vastgpu-reports")
    config.pluginmanager.register(_Done(session, leases), "vastgpu-done")


def _tests_will_run(session: pytest.Session) -> bool:
    """Whether pytest will run the collected tests with their fixtures."""
    option = session.config.getoption
    broken = session.testsfailed and not option("continue_on_collection_errors", False)
    return not broken and not option("setuponly", False)


def _open(config: pytest.Config, collected: Collected) -> Leases:
    """Connect to the supervisor. The only process also starts it; for a worker the controller does."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        from pytest_vastgpu.plugin.xdist import LINE_KEY

        line = RpcClient(RpcAddress(*workerinput[LINE_KEY]), "process")
        config.add_cleanup(line.close)
        # Do not wait: the answer comes only when the controller knows that this worker has collected.
        line.ask_later("collected", collected)
        return line.calls(Leases)  # type: ignore[type-abstract] # derives calls from it
    from pytest_vastgpu.plugin.controller import Controller

    if collected.problems:
        raise pytest.UsageError(*collected.problems)
    listener = Listener()
    config.add_cleanup(listener.remove)
    owner = Controller(config, listener, collected)
    config.pluginmanager.register(owner, "vastgpu-controller")
    return owner.calls


class _Done:
    """Plugin object of a process whose tests may use instances: reports when a test no longer uses them."""

    def __init__(self, session: pytest.Session, leases: Leases) -> None:
        self._stash = session.config.stash
        self._leases = leases

    @pytest.hookimpl(tryfirst=True)  # before other plugins learn that the test has ended
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self._stash.get(_asked, False):
            self._stash[_asked] = False
            with suppress(VastGpuError):  # the supervisor is gone, and its guard gives everything back
                self._leases.done(nodeid)


def shared(request: pytest.FixtureRequest) -> VastInstance:
    """The value of the fixture ``vast_instance``."""
    workload, changes = marked(request.node)
    workload = replace(workload or request.getfixturevalue("vast_workload"), **changes)
    return _acquire(request.node, workload, exclusive=False)


def owned(request: pytest.FixtureRequest) -> Callable[[Workload], VastInstance]:
    """The value of the fixture ``vast_instance_factory``."""

    def rent(workload: Workload) -> VastInstance:
        return _acquire(request.node, workload, exclusive=True)

    return rent


def _acquire(item: pytest.Item, workload: Workload, *, exclusive: bool) -> VastInstance:
    KNOWN.add_workload(workload)  # also hide its secrets in what the test's own process shows
    leases = item.config.stash.get(_leases, None)
    if leases is None:
        pytest.fail(
            "no test was seen at collection to ask for an instance: name the fixture among the test's arguments, or in "
            "@pytest.mark.usefixtures, where request.getfixturevalue asks for it later",
            pytrace=False,
        )
    item.config.stash[_asked] = True
    try:
        lease = leases.acquire(item.nodeid, with_whole_paths(workload, item.config), exclusive)
    except VastGpuError as error:
        problem, excused = str(error), isinstance(error, ProvisioningFailed) and error.machines_failed
    except Cancelled:
        problem, excused = "the run is ending", False
    else:
        instance = VastInstance(leases, lease)
        hold(item, instance)
        return instance
    if excused and item.config.stash[SETTINGS].on_infra_failure == "skip":
        pytest.skip(problem)
    # Outside the handler: otherwise pytest would also show the handled exception.
    pytest.fail(problem, pytrace=False)
