"""Requests instances for the tests of this process. Loaded only if a test needs one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import nullcontext
from contextlib import suppress
from dataclasses import replace
from functools import partial
from os import getpid
from typing import TYPE_CHECKING
from typing import TypeVar

import pytest

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.instance import InstanceFactory
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
from pytest_vastgpu.errors import SupervisorGone
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.collection import collect
from pytest_vastgpu.plugin.collection import hooks_of
from pytest_vastgpu.plugin.collection import may_ask
from pytest_vastgpu.plugin.collection import with_whole_paths
from pytest_vastgpu.plugin.marks import marked
from pytest_vastgpu.plugin.measurements import keeps_for
from pytest_vastgpu.plugin.options import MEASURES
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.options import TIMER
from pytest_vastgpu.plugin.reporting.explained import Explained
from pytest_vastgpu.plugin.reporting.explained import note
from pytest_vastgpu.plugin.reports import ReportHooks
from pytest_vastgpu.plugin.reports import blame_machines
from pytest_vastgpu.plugin.reports import hold
from pytest_vastgpu.plugin.running import InstanceOfRunningTest
from pytest_vastgpu.plugin.running import Running
from pytest_vastgpu.plugin.running import lead_to_own
from pytest_vastgpu.plugin.unasked import ASKED
from pytest_vastgpu.servers.workloads import require_workload

if TYPE_CHECKING:
    from pytest_vastgpu.plugin.terminal import ProgressReporter

_T = TypeVar("_T")
_leases = pytest.StashKey[Leases]()
_running = pytest.StashKey[Running]()
_foreseen = pytest.StashKey[set[str]]()
"""The tests that are known to ask for a shared instance, or that they may, by node id."""
_late = pytest.StashKey[bool]()
"""Whether a test of this process has asked of which that was not known."""
_seen = pytest.StashKey[bool]()
"""Whether the end of a test will be seen."""

_ONLY_SHOWS = ("collectonly", "setupplan", "showfixtures", "show_fixtures_per_test")
"""The options with which pytest sets up no fixture."""


def open_leases(session: pytest.Session, *, late: bool = False) -> None:
    """Find out what the selected tests need, and report it to the supervisor.

    :param late: Whether a running test asks: then its own run shows why nothing can be rented.
    """
    config = session.config
    if _leases in config.stash:  # a plugin that collects by itself can make pytest do it twice
        return
    if any(config.getoption(option, False) for option in _ONLY_SHOWS):
        return
    KNOWN.add_variable(API_KEY)
    KNOWN.add_login(IMAGE_LOGIN, image_login(os.environ))
    config.stash[_running] = Running()
    for item in session.items:
        lead_to_own(item)
    collected = collect(session.items, certain=_tests_will_run(session))
    collected.hooks = hooks_of(config)
    if config.stash[SETTINGS].baseline and any(MEASURES in getattr(item, "fixturenames", ()) for item in session.items):
        from pytest_vastgpu.plugin.baselines import problems

        collected.problems += problems(config)
    config.stash[_foreseen] = set(collected.tests)
    leases = config.stash[_leases] = _open(config, collected, late=late)
    config.pluginmanager.register(ReportHooks(config.stash[SETTINGS].on_infra_failure), "vastgpu-reports")
    config.pluginmanager.register(_TestEnds(leases), "vastgpu-test-ends")
    config.pluginmanager.register(config.stash[_running], "vastgpu-running")


def _tests_will_run(session: pytest.Session) -> bool:
    """Whether pytest will run the collected tests with their fixtures."""
    option = session.config.getoption
    broken = session.testsfailed and not option("continue_on_collection_errors", False)
    return not broken and not option("setuponly", False)


def _open(config: pytest.Config, collected: Collected, *, late: bool) -> Leases:
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
    owner = Controller(config, listener, collected, late=late)
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
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        if self._unseen is not None:
            self._goes_on_with(item)
            self._tell(self._leases.finished, self._unseen)
            self._unseen = None
        item.stash[_seen] = True
        result = yield
        if getpid() == self._pid:  # not in a child that a test has forked and that goes on with its parent's tests
            self._goes_on_with(nextitem)
            self._tell(self._leases.finished, item)
        return result

    def _goes_on_with(self, item: pytest.Item | None) -> None:
        """Have what a test got kept for the next one. Of its later tests a worker knows no more."""
        if item is not None and _is_worker(item.config) and item.config.stash.get(_late, False):
            with suppress(VastGpuError, Cancelled):
                _foresee(self._leases, [item])

    def _tell(self, call: Callable[[str], None], item: pytest.Item) -> None:
        with suppress(VastGpuError, Cancelled):  # the supervisor is gone, and its guard gives everything back
            call(item.nodeid)


def shared(request: pytest.FixtureRequest, default: Workload | None) -> VastInstance:
    """The value of the fixture ``vast_instance``.

    :param default: The value of the fixture ``vast_workload``.
    """
    item = request.node
    wanted = whole(item, workload_of(item, default))

    def ask(leases: Leases) -> list[Lease]:
        if item.nodeid not in item.config.stash[_foreseen]:  # what it gets may serve others that ask in the same way
            item.config.stash[_foreseen].add(item.nodeid)
            item.config.stash[_late] = True
            if not _is_worker(item.config):
                items = item.session.items
                _foresee(leases, items[items.index(item) + 1 :] if item in items else [])
        if MEASURES in getattr(item, "fixturenames", ()):  # what others ask of the server would be in the numbers
            return [leases.acquire_alone(item.nodeid, wanted)]
        return [leases.acquire(item.nodeid, wanted, False)]

    (instance,) = reported(item, lambda: granted(item, ask))
    item.config.stash[_running].takes(item, instance)
    instance.on_measured = keeps_for(item, instance, wanted)
    return instance


def workload_of(item: pytest.Item, default: Workload | None) -> Workload:
    """What runs on the shared instance of a test.

    :param default: The value of the fixture ``vast_workload``.
    """
    workload, changes = usable(lambda: marked(item))
    asked: object = workload or default
    if asked is None:
        pytest.fail(
            "this test needs an instance, but nothing says what shall run on it: mark it "
            "@pytest.mark.vast(vllm('org/model')), or define a fixture vast_workload that returns a workload",
            pytrace=False,
        )
    return replace(usable(lambda: require_workload(asked, "the value of the fixture vast_workload")), **changes)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _foresee(leases: Leases, items: Sequence[pytest.Item]) -> None:
    """Report those tests that may ask as another one has done, and whose end this process will report."""
    new = [each for each in items if each.nodeid not in each.config.stash[_foreseen] and may_ask(each)]
    for each in new:
        each.config.stash[_foreseen].add(each.nodeid)
    if new:
        leases.may_ask([each.nodeid for each in new])


def owned(request: pytest.FixtureRequest) -> InstanceFactory:
    """The value of the fixture ``vast_instance_factory``."""
    item = request.node

    def rent(*workloads: Workload) -> VastInstance | list[VastInstance]:
        if not workloads:
            pytest.fail(
                "vast_instance_factory needs a workload, such as vllm('org/model') makes; it got none", pytrace=False
            )
        for each in workloads:
            usable(partial(require_workload, each, "the argument of vast_instance_factory"))
        wanted = [whole(item, workload) for workload in workloads]
        instances = reported(item, lambda: granted(item, lambda leases: leases.acquire_several(item.nodeid, wanted)))
        for instance, workload in zip(instances, wanted, strict=True):
            instance.on_measured = keeps_for(item, instance, workload)
        return instances if len(workloads) > 1 else instances[0]

    return rent  # type: ignore[return-value] # one workload makes one instance, several make a list


def of_running_test(request: pytest.FixtureRequest) -> VastInstance:
    """The value of the fixtures ``vast_module_instance`` and ``vast_session_instance``."""
    # pytest has no public way to tell for which test it sets up a fixture of a wider scope.
    item = getattr(request, "_pyfuncitem", None)
    leases = opened(request.session)
    running = request.config.stash[_running]
    running.item = running.item or item
    return InstanceOfRunningTest(leases, running)


def usable(value: Callable[[], _T]) -> _T:
    """A value; what is wrong with it is the test's one-line failure."""
    try:
        return value()
    except ConfigurationError as error:
        problem = str(error)
    pytest.fail(problem, pytrace=False)


def whole(item: pytest.Item, workload: Workload) -> Workload:
    """The workload with whole paths. Its secrets are hidden from now on."""
    KNOWN.add_workload(workload)  # also hide its secrets in what the test's own process shows
    return with_whole_paths(workload, item.config)


def opened(session: pytest.Session) -> Leases:
    """The way to the supervisor, which the first test to ask opens where collection has seen no such test."""
    if _leases not in session.config.stash:
        try:
            open_leases(session, late=True)
        except pytest.UsageError as error:
            pytest.fail(str(error), pytrace=False)
    return session.config.stash[_leases]


def granted(item: pytest.Item, ask: Callable[[Leases], Sequence[Lease]]) -> list[VastInstance]:
    """The instances that a test is granted.

    :raises VastGpuError: if it gets none.
    :raises Cancelled: the run is ending.
    """
    leases = opened(item.session)
    item.stash[ASKED] = True
    with waiting(item, "an instance"):
        instances = [VastInstance(leases, lease) for lease in ask(leases)]
    for instance in instances:
        KNOWN.add("instance key", instance.api_key)
        hold(item, instance)
    return instances


def reported(item: pytest.Item, do: Callable[[], _T]) -> _T:
    """What this gives. An error of ours is the test's failure, in the words of that error and without a traceback."""
    __tracebackhide__ = True
    try:
        return do()
    except VastGpuError as error:
        problem, excused = str(error), error.machines_failed
        note(item, Explained.by_error(error))
    except Cancelled:
        problem, excused = "the run is ending", False
    if excused and item.config.stash[SETTINGS].on_infra_failure == "skip":
        pytest.skip(problem)
    if excused:
        blame_machines(item, problem)
    # Outside the handler: otherwise pytest would also show the handled exception.
    pytest.fail(problem, pytrace=False)


@contextmanager
def waiting(item: pytest.Item, what: str) -> Iterator[None]:
    """Show for what this process waits; for a worker the controller does. Meanwhile no time counts against the test."""
    progress: ProgressReporter | None = item.config.pluginmanager.get_plugin("vastgpu-progress")
    with _timer_stopped(item), progress.wait_for(what) if progress else nullcontext():
        yield


@contextmanager
def _timer_stopped(item: pytest.Item) -> Iterator[None]:
    """Stop pytest-timeout's timer for this test, if there is one, and set it anew after the block.

    The time that an instance needs is limited by this package's own options.
    """
    settings = item.stash.get(TIMER, None)
    if settings is None or threading.current_thread() is not threading.main_thread():  # a signal's timer is the main's
        yield
        return
    item.config.hook.pytest_timeout_cancel_timer(item=item)
    try:
        yield
    finally:
        item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)
