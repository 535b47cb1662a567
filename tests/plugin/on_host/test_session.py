"""What becomes of tests when workers, connections and hosts end: xdist's schedulers, simulated workers."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from execnet.gateway_base import RemoteError
from xdist.workermanage import Marker

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.on_host.hosts import SELECTED
from pytest_vastgpu.plugin.on_host.losses import Ending
from pytest_vastgpu.plugin.on_host.on_worker import EXIT
from pytest_vastgpu.plugin.on_host.on_worker import Endings
from pytest_vastgpu.plugin.on_host.workers import COLLECT_S
from pytest_vastgpu.plugin.on_host.workers import Node
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.reporting.explained import Explained
from pytest_vastgpu.plugin.reporting.explained import explained_of
from tests.plugin.on_host.simulation import BROKEN
from tests.plugin.on_host.simulation import CRASHED
from tests.plugin.on_host.simulation import LOST
from tests.plugin.on_host.simulation import World
from tests.support.quick import only

Build = Callable[..., World]
NO_CUDA = """Traceback (most recent call last):
  File "/r/_pytest/config/__init__.py", line 1, in _importconftest
    mod = import_path(
  File "PROJECT/conftest.py", line 1, in <module>
    import cuda
ImportError: libcuda.so.1: no such file

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "<string>", line 1, in <module>
  File "/r/_pytest/config/__init__.py", line 2, in _importconftest
    raise ConftestImportFailure(path, cause=e) from e
_pytest.config.ConftestImportFailure: ImportError: libcuda.so.1: no such file (from PROJECT/conftest.py)
"""
SHORT = """Traceback (most recent call last):
  File "PROJECT/conftest.py", line 1, in <module>
    import cuda
ImportError: libcuda.so.1: no such file"""
INSIDE = """Traceback (most recent call last):
  File "/p/plugin.py", line 1, in pytest_configure
    raise RuntimeError
RuntimeError: broken plugin"""
DISTS = ("worksteal", "load", "loadscope", "loadfile", "loadgroup")


@pytest.fixture
def world(pytester: pytest.Pytester) -> Build:
    """A run, all of whose outside is simulated."""

    def build(**how: Any) -> World:
        return World(pytester.parseconfig(), **how)

    return build


def no_cuda(host: str) -> RemoteError:
    """How a worker ends there whose conftest file cannot be imported."""
    return RemoteError(NO_CUDA.replace("PROJECT", f"/{host[-1]}/project"))


def passed(tests: Iterable[str]) -> dict[str, list[str]]:
    """The results of a run in which all is well."""
    return {test: ["passed"] for test in tests}


def once(ending: Ending, *tests: str) -> Callable[[str], Ending | None]:
    """Something befalls the first run of these tests."""
    left = list(tests)

    def befalls(test: str) -> Ending | None:
        if test not in left:
            return None
        left.remove(test)
        return ending

    return befalls


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize(
    "seeds", only([range(5)], [range(5), *(range(first, first + 40) for first in range(5, 400, 40))]), ids=str
)
def test_every_test_counts_once_whatever_is_lost_and_whenever(seeds: range, dist: str, world: Build) -> None:
    for seed in seeds:
        run = world(tests=17, hosts=3, each=2, seed=seed, dist=dist)

        def strikes(run: World = run) -> bool:
            if run.dice.random() < 0.02 and (living := run.living):
                run.loses(run.dice.choice(living), run.dice.choice([LOST, BROKEN]))
            return False

        try:
            run.goes_on(until=strikes)
        except pytest.exit.Exception:  # hosts were lost one after another before any test was known
            assert run.results == {}
            continue
        assert sorted(run.results) == sorted(run.tests), seed
        assert {len(outcomes) for outcomes in run.results.values()} == {1}, (seed, run.results)
        assert not [test for test, (outcome,) in run.results.items() if outcome in ("crash", "failed")], seed


@pytest.mark.parametrize(("kind", "says"), [(KeyboardInterrupt, 1), (pytest.Session.Interrupted, 0)])
def test_ctrl_c_says_what_is_waited_for(kind: type[BaseException], says: int, world: Build) -> None:
    run = world(tests=1, hosts=1, each=1)
    told: list[str] = []
    inside: Any = run.session
    inside.report_line = told.append
    with pytest.raises(kind) as interrupted:
        raise kind("stopping after 1 failure")
    run.session.pytest_keyboard_interrupt(interrupted)
    assert told == []  # no worker runs yet
    run.goes_on(until=lambda: bool(run.living))
    run.session.pytest_keyboard_interrupt(interrupted)
    assert [line for line in told if "interrupted" in line] == [
        "vastgpu: interrupted: the workers have up to 10 s to end"
    ][:says]


def test_a_test_whose_host_is_lost_runs_once_more(world: Build, capsys: pytest.CaptureFixture[str]) -> None:
    run = world(tests=6, hosts=2, each=1)
    run.deadly = once(LOST, "t_2.py::test_2")
    run.goes_on()
    assert run.results == passed(run.tests)
    assert run.session._runs.summary() == [
        "vastgpu: 1 test ran twice (runtime_lost: instance_lost): t_2.py::test_2",
    ]


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("ending", [LOST, BROKEN], ids=["host", "connection"])
def test_a_test_that_ends_where_it_runs_is_an_error_after_two_runs(ending: Ending, dist: str, world: Build) -> None:
    run = world(tests=12, hosts=2, each=1, dist=dist)
    run.deadly = lambda test: ending if test == "t_1.py::test_4" else None
    run.goes_on()
    assert run.results == {**passed(run.tests), "t_1.py::test_4": ["error"]}
    (report,) = [report for report in run.reports if report.failed]
    assert "it was lost 2 times" in str(report.longrepr)
    assert str(report.longrepr).count(ending.story) == 2
    (end,) = [each for each in run.reports if each.nodeid == report.nodeid and each.when == "teardown"]
    assert ending.verdict is not None
    assert ("vast_reason", ending.verdict.reason) in end.user_properties
    assert explained_of(end) == Explained(ending.verdict, artifacts=[])


@pytest.mark.parametrize("dist", DISTS)
def test_a_worker_that_crashes_on_a_living_host_fails_its_test(dist: str, world: Build) -> None:
    run = world(tests=12, hosts=2, each=2, dist=dist)
    run.deadly = once(CRASHED, "t_1.py::test_4")
    run.goes_on()
    assert run.results == {**passed(run.tests), "t_1.py::test_4": ["crash"]}
    assert run.rented == ["host 1", "host 2"]


def test_a_worker_that_crashes_is_replaced(world: Build) -> None:
    run = world(tests=12, hosts=1, each=1)
    run.deadly = once(CRASHED, "t_1.py::test_4")
    run.goes_on()
    assert [worker.rented.name for worker in run.workers] == ["host 1", "host 1"]


def test_what_a_test_reported_before_its_worker_crashed_is_passed_on(world: Build) -> None:
    run = world(tests=4, hosts=1, each=1)
    run.deadly = once(CRASHED, "t_1.py::test_1")
    run.goes_on()
    assert [report.when for report in run.reports if report.nodeid == "t_1.py::test_1"] == ["setup", "???"]


def test_max_worker_restart_counts_crashes_and_no_losses(world: Build) -> None:
    run = world(tests=8, hosts=1, each=1)
    run.session._max_worker_restart = 1
    run.deadly = once(LOST, *run.tests[:3])
    run.goes_on()
    assert run.results == passed(run.tests)
    crashing = world(tests=8, hosts=1, each=1)
    crashing.session._max_worker_restart = 1
    crashing.deadly = once(CRASHED, *crashing.tests)
    crashing.goes_on()
    assert list(crashing.results.values()) == [["crash"], ["crash"]]
    assert crashing.session._summary_report == "maximum crashed workers reached: 1"


def test_where_no_host_is_to_be_had_any_more_what_has_not_run_is_an_error(world: Build) -> None:
    run = world(tests=6, hosts=1, each=1, rents=lambda number: number == 1)
    run.deadly = once(LOST, "t_2.py::test_2")
    run.goes_on()
    assert run.results == {test: ["passed" if test in run.tests[:2] else "error"] for test in run.tests}
    first, *others = [str(report.longrepr) for report in run.reports if report.failed]
    assert "was lost with its host, and no host is left" in first
    assert "runtime_lost: instance_lost" in first
    assert all("did not run, and no host is left" in each and "whole story: t_2.py::test_2" in each for each in others)


def test_such_a_test_is_a_skip_where_the_user_says_so(world: Build) -> None:
    run = world(tests=2, hosts=1, each=1)
    run.session.config.stash[SETTINGS].on_infra_failure = "skip"
    run.deadly = lambda test: LOST if test == "t_0.py::test_0" else None
    run.goes_on()
    outcomes = {report.nodeid: report.outcome for report in run.reports if report.when == "setup"}
    assert outcomes == dict.fromkeys(run.tests, "skipped")


def test_before_any_test_is_known_the_run_ends_with_the_reason(world: Build) -> None:
    run = world(tests=2, hosts=2, each=1, rents=lambda _: False)
    with pytest.raises(pytest.exit.Exception, match="no test could run: no offers: nothing is left") as ended:
        run.goes_on()
    assert ended.value.returncode == pytest.ExitCode.INTERRUPTED


def test_then_the_reason_is_one_line_and_the_whole_story_is_told_for_the_host_alone(world: Build) -> None:
    run = world(tests=2, hosts=1, each=1)
    told: list[str] = []
    run.session.report_line = told.append
    run.todo.clear()
    run.session.queue.put(("hostfailed", {"name": "host 1", "error": VastGpuError("not ready\n  evidence\n  remedy")}))
    with pytest.raises(pytest.exit.Exception) as ended:
        run.goes_on()
    assert str(ended.value) == "vastgpu: no test could run: not ready"
    assert told == ["vastgpu: host 1: not ready\n  evidence\n  remedy"]


def test_a_host_that_fails_to_come_stops_no_other(world: Build) -> None:
    run = world(tests=6, hosts=2, each=1, rents=lambda number: number == 2)
    run.goes_on()
    assert run.results == passed(run.tests)


def test_the_first_host_begins_and_a_late_one_takes_over_half_of_the_rest(world: Build) -> None:
    run = world(tests=20, hosts=2, each=1)
    late = run.todo.pop()
    run.goes_on(until=lambda: len(run.results) == 4)
    run.todo.append(late)
    run.goes_on()
    ran = {worker: sum(getattr(each, "node", None) is worker for each in run.reports) / 3 for worker in run.workers}
    assert sorted(ran.values())[0] > 4, ran


def test_a_host_that_is_ready_when_nothing_is_left_is_given_back_at_once(world: Build) -> None:
    run = world(tests=4, hosts=2, each=1)
    late = run.todo.pop()
    run.goes_on(until=lambda: len(run.results) == 3)
    late()
    run.goes_on()
    assert run.results == passed(run.tests)
    assert run.given_back[0] == "host 2"


def test_a_host_whose_workers_have_finished_is_given_back_while_others_run(world: Build) -> None:
    run = world(tests=4, hosts=2, each=1)
    run.goes_on(until=lambda: len(run.given_back) == 1)
    assert len(run.results) < 4


def test_a_place_whose_hosts_are_lost_before_any_result_is_not_rented_for_ever(world: Build) -> None:
    run = world(tests=4, hosts=1, each=2)
    run.deadly = lambda _: LOST
    run.goes_on()
    assert run.rented == ["host 1", "host 1"]
    assert {outcome for outcomes in run.results.values() for outcome in outcomes} == {"error"}


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("dist", DISTS)
def test_tests_that_end_every_process_of_a_host_that_lives_leave_it_to_the_others(
    dist: str, each: int, world: Build
) -> None:
    for seed in range(5):
        run = world(tests=15, hosts=2, each=each, dist=dist, seed=seed)
        run.deadly = lambda test: BROKEN if int(test.rpartition("_")[2]) < 5 else None
        run.goes_on()
        assert [run.results[test] for test in run.tests[:5]] == [["error"]] * 5
        assert len(run.results) == 15
        told = [str(report.longrepr) for report in run.reports if report.failed]
        assert all("lost 2 times" in text for text in told), "none is left without a host"


def test_a_late_host_that_collects_other_tests_runs_none(world: Build) -> None:
    run = world(tests=20, hosts=2, each=1)
    late = run.todo.pop()
    run.goes_on(until=lambda: len(run.results) == 2)
    known = list(run.tests)
    late()
    run.goes_on(until=lambda: len(run.workers) == 2)
    run.tests.append("t_9.py::test_only_there")
    run.goes_on()
    assert run.results == passed(known)
    (report,) = run.collect_reports
    assert "Different tests were collected" in str(report.longrepr)


def test_no_tests_at_all_end_the_run(world: Build) -> None:
    run = world(tests=0, hosts=2, each=2)
    run.goes_on()
    assert run.results == {}


@pytest.mark.parametrize(("here", "failed", "exits"), [(3, 0, True), (3, 1, False), (0, 0, False)])
def test_nothing_on_the_hosts_where_something_is_selected_here_is_an_error(
    here: int, failed: int, exits: bool, world: Build
) -> None:
    run = world(tests=0, hosts=2, each=1)
    run.session.config.stash[SELECTED] = here
    run.session._session.testsfailed = failed
    with pytest.raises(pytest.exit.Exception, match="collected on the hosts, and 3 here") if exits else nullcontext():
        run.whole()


def test_a_test_without_a_result_counts_as_a_failure_for_maxfail(world: Build) -> None:
    run = world(tests=8, hosts=1, each=1)
    run.session.maxfail = 1
    run.deadly = lambda test: LOST if test == "t_0.py::test_3" else None
    run.goes_on()
    assert run.session.shouldstop == "stopping after 1 failures"
    assert len(run.results) < 8


def test_nothing_is_run_again_once_the_run_stops(world: Build) -> None:
    run = world(tests=8, hosts=1, each=1)
    run.goes_on(until=lambda: run.workers != [] and run.workers[0].runs_a_test)
    run.session.shouldstop = "told so"
    run.loses(run.workers[0], LOST)
    run.goes_on()
    assert run.rented == ["host 1"]


def test_after_an_internal_error_of_a_worker_the_others_run_the_rest(world: Build) -> None:
    run = world(tests=8, hosts=1, each=1)
    run.goes_on(until=lambda: run.workers != [] and run.session._held.has_begun(run.workers[0]))
    run.session.queue.queue.clear()
    run.fails_inside(run.workers[0])
    run.goes_on()
    assert run.results == passed(run.tests[1:])
    assert run.session._internal == "gw0"


def test_a_failure_of_what_has_to_do_with_hosts_ends_the_run(world: Build) -> None:
    run = world(tests=3, hosts=1, each=1)
    run.session.queue.put(("broken", {"error": OSError(28, "No space left on device")}))
    run.session.queue.put(("broken", {"error": KeyError("gw0")}))
    with pytest.raises(pytest.exit.Exception, match=r"^vastgpu: the run cannot go on: .* No space left on device$"):
        run.session.loop_once()
    with pytest.raises(RuntimeError, match="a defect of pytest-vastgpu: please report it") as raised:
        run.session.loop_once()
    assert repr(raised.value.__cause__) == "KeyError('gw0')"


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("collects", [False, True], ids=["before collection", "after collection"])
def test_a_host_whose_workers_can_run_no_test_is_left_alone_and_the_others_run_all(
    collects: bool, dist: str, world: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world(tests=40, hosts=2, each=2, dist=dist)
    run.session.config.option.verbose = 0
    told: list[str] = []
    run.session.report_line = told.append
    run.unfit = {"host 1": no_cuda("host 1")}
    run.unfit_collects = collects
    run.goes_on()
    assert run.results == passed(run.tests)
    assert [worker.rented.name for worker in run.workers].count("host 1") == 2
    assert run.rented == ["host 1", "host 2"]
    assert run.given_back[0] == "host 1"
    line, traceback, *others = told
    root = str(run.session.config.rootpath)
    said = f"ImportError: libcuda.so.1: no such file (from {root}/conftest.py)"
    assert line == f"vastgpu: host 1 can run no test: {said}"
    assert traceback == SHORT.replace("PROJECT", root)
    assert not others


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("seeds", only([range(36, 46)], [range(36, 46), range(46, 120)]), ids=str)
def test_a_host_is_kept_until_those_that_have_the_tests_have_shown_that_they_can_run_them(
    seeds: range, dist: str, world: Build
) -> None:
    for seed in seeds:
        run = world(tests=1 + seed % 3, hosts=2, each=1 + seed % 2, dist=dist, seed=seed)
        run.session.report_line = lambda _: None
        run.unfit = {"host 1": no_cuda("host 1")}
        run.unfit_collects = True
        run.goes_on()
        assert run.results == passed(run.tests), seed
        assert run.rented == ["host 1", "host 2"], seed


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("seeds", only([range(6, 12)], [range(6, 12), range(12, 90)]), ids=str)
def test_where_no_host_can_run_a_test_it_is_a_line_for_each_of_them_that_was_ready(
    seeds: range, dist: str, world: Build
) -> None:
    for seed in seeds:
        run = world(tests=1, hosts=2, each=1, dist=dist, seed=seed)
        told: list[str] = []
        run.session.report_line = told.append
        run.unfit = {name: {"exitstatus": 7} for name in ("host 1", "host 2")}
        run.unfit_collects = True
        with pytest.raises(pytest.exit.Exception, match="no test could run"):
            run.whole()
        assert sorted(told) == [f"vastgpu: host {n} can run no test: pytest ended with exit code 7" for n in (1, 2)], (
            seed
        )


def test_where_no_host_can_run_a_test_the_run_ends_with_one_traceback_and_the_reason(world: Build) -> None:
    run = world(tests=40, hosts=3, each=2)
    told: list[str] = []
    run.session.report_line = told.append
    run.unfit = {name: no_cuda(name) for name in ("host 1", "host 2", "host 3")}
    with pytest.raises(pytest.exit.Exception, match=r"no test could run: host \d: ImportErr") as ended:
        run.goes_on()
    assert ended.value.returncode == pytest.ExitCode.INTERRUPTED
    assert "\n" not in str(ended.value)
    assert len(told) == 4
    assert told.count(SHORT.replace("PROJECT", str(run.session.config.rootpath))) == 1
    assert sorted(run.given_back) == ["host 1", "host 2", "host 3"]


def test_a_worker_whose_pytest_ends_before_its_first_test_says_why(world: Build) -> None:
    run = world(tests=8, hosts=2, each=1)
    told: list[str] = []
    run.session.report_line = told.append
    run.unfit = {"host 1": {"exitstatus": 2, EXIT: "no GPU here"}, "host 2": {"exitstatus": 7}}
    run.unfit_collects = True
    with pytest.raises(pytest.exit.Exception, match="no test could run"):
        run.whole()
    assert sorted(told) == [
        "vastgpu: host 1 can run no test: no GPU here",
        "vastgpu: host 2 can run no test: pytest ended with exit code 7",
    ]


def test_an_internal_error_before_the_first_test_is_one_message(world: Build) -> None:
    run = world(tests=8, hosts=2, each=1)
    told: list[str] = []
    run.session.report_line = told.append
    run.goes_on(until=lambda: run.workers != [])
    run.workers[0].ended = run.workers[0].shutting_down = True
    run.session.queue.put(("internal_error", {"node": run.workers[0], "formatted_error": INSIDE}))
    run.goes_on()
    assert run.results == passed(run.tests)
    assert told == [f"vastgpu: {run.workers[0].rented.name} can run no test: RuntimeError: broken plugin", INSIDE]


def test_the_words_of_a_usage_error_come_with_the_end_of_the_connection() -> None:
    node = Node.__new__(Node)
    events: list[tuple[str, dict[str, Any]]] = []
    node.putevent, node.log, node._down = events.append, print, False
    node.gateway = SimpleNamespace(id="gw0")
    node.channel = SimpleNamespace(_getremoteerror=lambda: RemoteError("say --gpu"))
    node.process_from_remote(("workerfinished", {"workeroutput": {"exitstatus": 4}}))
    assert events == []
    node.process_from_remote(Marker.END)
    ((name, said),) = events
    assert (name, str(said["error"])) == ("errordown", "say --gpu")


def test_a_worker_says_what_pytest_exit_was_called_with_and_leaves_internal_errors_to_xdist(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    config = pytester.parseconfigure("-p", "no:terminal")
    config.workeroutput = {}  # type: ignore[attr-defined]
    config.pluginmanager.register(Endings(config))
    with pytest.raises(pytest.exit.Exception) as ended:
        pytest.exit("no GPU here")
    config.hook.pytest_keyboard_interrupt(excinfo=ended)
    assert config.workeroutput == {EXIT: "no GPU here"}  # type: ignore[attr-defined]
    config.notify_exception(ended)
    assert capsys.readouterr().err == ""


def test_what_has_not_run_when_the_run_is_over_is_an_error(world: Build) -> None:
    run = world(tests=8, hosts=1, each=1)
    run.session._max_worker_restart = 1
    run.deadly = once(CRASHED, *run.tests)
    run.whole()
    assert list(run.results.values()) == [["crash"], ["crash"], *[["error"]] * 6]
    texts = [str(report.longrepr) for report in run.reports if report.when == "setup" and report.failed]
    assert all("this test did not run, and the run is over" in text for text in texts)
    assert all("maximum crashed workers reached: 1" in text for text in texts)


def test_what_has_not_run_is_no_error_where_the_user_has_stopped_the_run(world: Build) -> None:
    run = world(tests=8, hosts=1, each=1)
    run.session.maxfail = 1
    run.deadly = lambda test: LOST if test == "t_0.py::test_3" else None
    with pytest.raises(KeyboardInterrupt):
        run.whole()
    assert [test for test, outcomes in run.results.items() if outcomes != ["passed"]] == ["t_0.py::test_3"]
    assert len(run.results) < 8


def test_pytest_exit_in_a_test_stops_the_run_with_its_words(world: Build) -> None:
    run = world(tests=8, hosts=1, each=1)
    run.goes_on(until=lambda: run.workers != [] and run.session._held.has_begun(run.workers[0]))
    run.workers[0].exits({"exitstatus": 7, EXIT: "enough"})
    run.goes_on()
    assert run.session.shouldstop == "gw0: enough"


def test_what_a_worker_says_after_its_end_counts_no_more(world: Build) -> None:
    run = world(tests=8, hosts=1, each=2)
    run.goes_on(until=lambda: run.workers != [] and run.session._held.has_begun(run.workers[0]))
    run.session.queue.put(("errordown", {"node": run.workers[0], "error": "a report that cannot be read"}))
    run.goes_on(until=lambda: bool(run.session._lost))
    look = run.todo.pop()
    run.goes_on(until=lambda: len(run.results) == 7 and not run.workers[0].can_go_on)
    run.todo.append(look)
    run.goes_on()
    outcomes = sorted(outcome for outcomes in run.results.values() for outcome in outcomes)
    assert outcomes == ["crash", *["passed"] * 7]


def test_another_ctrl_c_ends_only_the_waiting_for_workers_that_hang(world: Build) -> None:
    run = world(tests=1, hosts=1, each=1)
    inside: Any = run.session
    stopped: list[bool] = []
    told: list[str] = []
    inside.report_line = told.append

    def end() -> None:
        raise KeyboardInterrupt

    inside._fleet, inside._fetching = SimpleNamespace(end=end), SimpleNamespace(stop=lambda: stopped.append(True))
    session: Any = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    run.session.pytest_sessionfinish(session)
    assert (session.exitstatus, stopped) == (pytest.ExitCode.INTERRUPTED, [True])
    assert told == ["vastgpu: interrupted: workers that hang are waited for no longer, and nothing is fetched"]


def test_a_worker_that_hangs_in_its_collection_keeps_nobody_waiting(world: Build) -> None:
    run = world(tests=8, hosts=2, each=1)
    inside: Any = run.session
    told: list[str] = []
    now = 0.0
    inside._clock, inside.report_line = lambda: now, told.append
    for comes in run.todo[:]:
        comes()
    run.todo.clear()
    run.goes_on(until=lambda: len(run.workers) == 2)
    hangs = run.workers[0]
    hangs._queue, hangs._said = [0], 2
    run.goes_on(until=lambda: len(inside.sched.nodes) == 1)
    assert not inside._schedule.begun
    now = COLLECT_S
    inside._begin_tests()
    assert told[-1:] == ["vastgpu: gw0 on host 1 still collects after 30 s: nobody waits for it any longer"]
    run.goes_on()
    assert run.results == passed(run.tests)
