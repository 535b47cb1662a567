"""Requests instances for the tests of this process. Loaded only if a selected test needs one."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from os import getpid
from typing import TypeVar

import pytest

from pytest_vastgpu.client import rpc
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
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import SupervisorGone
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.collection import collect
from pytest_vastgpu.plugin.collection import hooks_of
from pytest_vastgpu.plugin.collection import with_whole_paths
from pytest_vastgpu.plugin.marks import marked
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.reports import ReportHooks
from pytest_vastgpu.plugin.reports import hold
from pytest_vastgpu.plugin.unasked import ASKED
from pytest_vastgpu.servers.workloads import require_workload

_T = TypeVar("_T")
_leases = pytest.StashKey[Leases]()
_seen = pytest.StashKey[bool]()
"""Whether the end of a test will be seen."""

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
    config.pluginmanager.register(_TestEnds(leases), "vastgpu-test-ends")


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

        try:
            line = RpcClient(RpcAddress(*workerinput[LINE_KEY]), "process")
        except SupervisorGone as gone:  # a worker in the place of one that crashed; each test tells why it has none
            return rpc.remote(Leases, partial(_raise, str(gone)))  # type: ignore[type-abstract] # derives calls from it
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


def _raise(why: str, _call: str, _arguments: list[object]) -> None:
    raise SupervisorGone(why)


class _TestEnds:
    """Plugin object of a process that runs tests: reports when a test lets go of its instances, and when it is over.

    Plugins that try a test again (rerunfailures, flaky, retry and others) set it up and tear it down several times, and
    some report a start and a finish for each try. What they all have in common is that the tries are within one call of
    ``pytest_runtest_protocol``: a test is over when that call has returned.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._pid = getpid()
        self._unseen: pytest.Item | None = None
        """A test that has asked, and that had begun before this plugin was registered."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost: other plugins and fixtures no longer use the instances
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if item.stash.get(ASKED, False):
                item.stash[ASKED] = False
                self._tell(self._leases.done, item)
                self._unseen = None if item.stash.get(_seen, False) else item

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if self._unseen is not None:
            self._tell(self._leases.finished, self._unseen)
            self._unseen = None
        item.stash[_seen] = True
        result = yield
        if getpid() == self._pid:  # not in a child that a test has forked and that goes on with its parent's tests
            self._tell(self._leases.finished, item)
        return result

    def _tell(self, call: Callable[[str], None], item: pytest.Item) -> None:
        with suppress(VastGpuError, Cancelled):  # the supervisor is gone, and its guard gives everything back
            call(item.nodeid)


def shared(request: pytest.FixtureRequest) -> VastInstance:
    """The value of the fixture ``vast_instance``."""
    workload, changes = _usable(lambda: marked(request.node))
    asked: object = workload or request.getfixturevalue("vast_workload")
    workload = _usable(lambda: require_workload(asked, "the value of the fixture vast_workload"))
    return _acquire(request.node, replace(workload, **changes), exclusive=False)


def owned(request: pytest.FixtureRequest) -> Callable[[Workload], VastInstance]:
    """The value of the fixture ``vast_instance_factory``."""

    def rent(workload: Workload) -> VastInstance:
        usable = _usable(lambda: require_workload(workload, "the argument of vast_instance_factory"))
        return _acquire(request.node, usable, exclusive=True)

    return rent


def _usable(value: Callable[[], _T]) -> _T:
    """A value; what is wrong with it is the test's one-line failure."""
    try:
        return value()
    except ConfigurationError as error:
        problem = str(error)
    pytest.fail(problem, pytrace=False)


def _acquire(item: pytest.Item, workload: Workload, *, exclusive: bool) -> VastInstance:
    KNOWN.add_workload(workload)  # also hide its secrets in what the test's own process shows
    leases = item.config.stash.get(_leases, None)
    if leases is None:
        pytest.fail(
            "no test was seen at collection to ask for an instance: name the fixture among the test's arguments, or in "
            "@pytest.mark.usefixtures, where request.getfixturevalue asks for it later",
            pytrace=False,
        )
    item.stash[ASKED] = True
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
