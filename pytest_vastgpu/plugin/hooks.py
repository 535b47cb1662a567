"""The pytest hooks and the fixtures: the module behind pytest's entry point.

Every run loads this module, whether it rents or not. So the module only checks whether the run needs an instance; the
code for that case is in other modules.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.plugin import hookspecs
from pytest_vastgpu.plugin.options import ASKING
from pytest_vastgpu.plugin.options import HOSTS
from pytest_vastgpu.plugin.options import NESTED
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.options import TIMER
from pytest_vastgpu.plugin.options import add_options
from pytest_vastgpu.plugin.options import hosts_asked
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.plugin.options import with_values
from pytest_vastgpu.settings import HOST_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_vastgpu.client.instance import InstanceFactory
    from pytest_vastgpu.client.instance import VastInstance
    from pytest_vastgpu.model import Workload
    from pytest_vastgpu.plugin.measuring.benchmark import Benchmark
    from pytest_vastgpu.plugin.measuring.compare import Compare

PLAN = "vastgpu-plan"
"""The plugin object of a run that only plans."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options and this package's hooks."""
    add_options(parser)
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Keep a path away from an option that stands alone, before pytest looks for conftest files below its paths."""
    if (whole := with_values(args)) != args:
        args[:] = whole
        # The rest of it stays: pytest has added to it what it has found out.
        early_config.known_args_namespace.file_or_dir = parser.parse_known_args(args).file_or_dir
    known = early_config.known_args_namespace
    if getattr(known, "dist", "") == "no" and hosts_asked(partial(getattr, known), early_config.getini, os.environ):
        known.dist = "load"  # pytest-cov decides in this hook whether there are workers
    return (yield)


# A wrapper, so that it comes before xdist's hook whatever the order of their registration.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Look where tests run, early enough for plugin objects with hooks of their own."""
    if _names_hosts(config):
        from pytest_vastgpu.plugin.on_host.start import Hosts

        hosts = Hosts()
        hosts.look_early(config)
        config.pluginmanager.register(hosts, HOSTS)
    if _is_on_host(config):
        from pytest_vastgpu.plugin.on_host.on_worker import Endings

        config.pluginmanager.register(Endings(config), "vastgpu-endings")
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Decide the value of every option before anything else."""
    config.addinivalue_line("markers", _marker_help(config))
    config.stash[NESTED] = "PYTEST_CURRENT_TEST" in os.environ
    if _is_on_host(config):  # nothing can be rented from there, and it has none of the values
        if asked := config.workerinput["vastgpu_host"].get("fetch"):  # type: ignore[attr-defined] # xdist's
            from pytest_vastgpu.plugin.on_host.on_worker import serve

            serve(config, asked)
        return
    config.stash[SETTINGS] = resolve(config.getoption, config.getini, os.environ)
    if config.getoption("vast_plan") or config.getoption("vast_plan_json"):
        from pytest_vastgpu.plugin.plan import PlanOnly

        config.pluginmanager.register(PlanOnly(config), PLAN)
    if config.stash[SETTINGS].report and not hasattr(config, "workerinput"):
        from pytest_vastgpu.plugin.reporting.html_report import HtmlReport

        settings = config.stash[SETTINGS]
        config.pluginmanager.register(HtmlReport(config, settings.report, settings.sources["report"]), "vastgpu-html")
    hosts = config.pluginmanager.get_plugin(HOSTS)
    if hosts is not None and hosts.decide(config):
        return
    if not hasattr(config, "workerinput") and any(each.startswith("save") for each in config.stash[SETTINGS].baseline):
        from pytest_vastgpu.plugin.baselines import Saving

        config.pluginmanager.register(Saving(config), "vastgpu-baselines")
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        from pytest_vastgpu.plugin.xdist import XdistController

        config.pluginmanager.register(XdistController(config), "vastgpu-xdist")


def _names_hosts(config: pytest.Config) -> bool:
    """Whether hosts are asked for, or an option of theirs stands on the command line."""
    if hasattr(config, "workerinput"):
        return False
    given = any(config.getoption(option.ini) is not None for option in HOST_OPTIONS)
    return given or hosts_asked(config.getoption, config.getini, os.environ) > 0


def _is_on_host(config: pytest.Config) -> bool:
    """Whether this process is a worker on a rented host."""
    return "vastgpu_host" in getattr(config, "workerinput", ())


def _refuse_on_host(request: pytest.FixtureRequest) -> None:
    """Fail a test that asks for an instance, and runs on a host itself."""
    if _is_on_host(request.config):
        pytest.fail(
            f"{request.fixturename} cannot be had on a rented host (--vast-hosts), where nothing is rented: have the "
            "test start the server itself, or run it without --vast-hosts",
            pytrace=False,
        )


def _marker_help(config: pytest.Config) -> str:
    if not config.getoption("markers", False):
        return "vast(workload=None, **fields)"  # enough for --strict-markers: the field names would load the model
    from pytest_vastgpu.plugin.marks import help_line

    return help_line()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> Generator[None, object, object]:
    """Check whether a selected test needs an instance. If no test does, the plugin does nothing more.

    A worker calls the supervisor before xdist reports its collection. The only process goes on below pytest's line on
    the collected tests: what it prints then is all of a run that rents.
    """
    if hasattr(session.config, "workerinput"):
        _open_where_needed(session)
        return (yield)
    result = yield
    _open_where_needed(session)
    return result


def _open_where_needed(session: pytest.Session) -> None:
    if session.config.pluginmanager.has_plugin(PLAN) or _is_on_host(session.config):
        return
    if _is_marked(session):
        from pytest_vastgpu.plugin.unasked import watch_marks

        watch_marks(session)
    if any(not ASKING.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items):
        from pytest_vastgpu.plugin.leases import open_leases

        open_leases(session)


def _is_marked(session: pytest.Session) -> bool:
    """Whether a selected test, or its class or module, has the mark. Each class and module is looked at once."""
    nodes = {item.parent for item in session.items if item.parent is not None}
    return any("vast" in node.keywords for node in nodes) or any(
        mark.name == "vast" for item in session.items for mark in item.own_markers
    )


@pytest.fixture(scope="session")
def vast_workload() -> Workload | None:
    """The workload of tests whose marker names none. Override it in a conftest file or a test module, in any scope.

    It is also called when collection ends, so that renting can start before the first test runs: keep it free of side
    effects. It may have parameters, its own or those of ``pytest.mark.parametrize``; each of them is then rented for.
    An override that yields, or uses a fixture other than ``request``, runs only with its tests.
    """
    return None


@pytest.fixture
def vast_instance(request: pytest.FixtureRequest, vast_workload: Workload | None) -> VastInstance:
    """A rented instance on which the workload's server is ready. Tests with equal workloads share it."""
    _refuse_on_host(request)
    from pytest_vastgpu.plugin.leases import shared

    return shared(request, vast_workload)


@pytest.fixture(scope="module")
def vast_module_instance(request: pytest.FixtureRequest) -> VastInstance:
    """A handle for fixtures of a module or a class: it leads to the ``vast_instance`` of the test that runs."""
    _refuse_on_host(request)
    from pytest_vastgpu.plugin.leases import of_running_test

    return of_running_test(request)


@pytest.fixture(scope="session")
def vast_session_instance(request: pytest.FixtureRequest) -> VastInstance:
    """A handle for fixtures of any scope: it leads to the ``vast_instance`` of the test that runs."""
    _refuse_on_host(request)
    from pytest_vastgpu.plugin.leases import of_running_test

    return of_running_test(request)


@pytest.fixture
def vast_instance_factory(request: pytest.FixtureRequest) -> InstanceFactory:
    """A function that rents instances for this test alone; they are given back when the test is over.

    ``factory(workload)`` returns an instance, ``factory(one, two, …)`` a list: those come up at the same time, and if
    one of them fails, the others are given back.
    """
    _refuse_on_host(request)
    from pytest_vastgpu.plugin.leases import owned

    return owned(request)


@pytest.fixture
def vast_compare(request: pytest.FixtureRequest) -> Compare:
    """A function that compares two versions side by side on one host, and on a second one where that must confirm.

    ``vast_compare(baseline=…, candidate=…, load=…)`` measures; ``.assert_no_regression(throughput=0.05)`` of its result
    fails for a regression. One server runs at a time; with ``together=True`` both do, each with part of the memory.
    """
    _refuse_on_host(request)
    from pytest_vastgpu.plugin.measuring.compare import comparing

    return comparing(request)


@pytest.fixture
def vast_benchmark(
    request: pytest.FixtureRequest, vast_instance: VastInstance, vast_workload: Workload | None
) -> Benchmark:
    """A function that measures ``vast_instance`` and keeps the result for the run's report, and as a baseline.

    ``vast_benchmark(load, seconds=10, name="")`` returns what ``vast_instance.measure`` does. ``--vast-baseline`` says
    whether it is saved, or compared with what was.
    """
    from pytest_vastgpu.plugin.leases import workload_of
    from pytest_vastgpu.plugin.measuring.benchmark import Benchmark

    return Benchmark(request.node, vast_instance, workload_of(request.node, vast_workload))


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: object) -> None:
    """pytest-timeout is about to set a test's timer. A wait for an instance stops it, see :mod:`.leases`."""
    item.stash[TIMER] = settings


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """pytest-timeout is about to stop a test's timer."""
    if TIMER in item.stash:
        del item.stash[TIMER]
