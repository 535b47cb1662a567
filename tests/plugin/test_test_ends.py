"""When a test lets go of its instance and when it is over, whatever runs it: a supervisor that only writes down."""

from __future__ import annotations

import os
import re
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin import leases
from pytest_vastgpu.plugin.controller import Controller
from tests.support.factories import make_offer

TRIES = """
import pytest
from collections import Counter
from _pytest.runner import runtestprotocol

tries, most = Counter(), 5
"""

RERUNS = f"""{TRIES}
def pytest_runtest_protocol(item, nextitem):
    again, number = True, 0
    while again:
        number += 1
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        again = number < most and any(report.failed for report in reports) and item.name.startswith("test_flaky")
        for report in reports:
            report.outcome = "rerun" if again and report.failed else report.outcome
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""
"""As pytest-rerunfailures does it: start, reports and finish of each try are told."""

FLAKY = f"""{TRIES}
import _pytest.runner

class Plugin:
    def pytest_runtest_protocol(self, item, nextitem):
        original, again, number = _pytest.runner.call_and_report, True, 0

        def call_and_report(item, when, log=True, **kwds):
            nonlocal again
            hook = getattr(item.ihook, "pytest_runtest_" + when)
            call = pytest.CallInfo.from_call(lambda: hook(item=item, **kwds), when=when)
            report = item.ihook.pytest_runtest_makereport(item=item, call=call)
            again = again or (report.failed and item.name.startswith("test_flaky") and number < most)
            if not (report.failed and again):
                item.ihook.pytest_runtest_logreport(report=report)
            return report

        _pytest.runner.call_and_report = call_and_report
        try:
            while again:
                again, number = False, number + 1
                _pytest.runner.pytest_runtest_protocol(item, nextitem)
        finally:
            _pytest.runner.call_and_report = original
        return True

def pytest_configure(config):
    config.pluginmanager.register(Plugin())
"""
"""As flaky does it: pytest's own protocol, several times."""

RETRY = f"""{TRIES}
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report, number = (yield), 1
    while report.when == "call" and report.failed and item.name.startswith("test_flaky") and number < most:
        number += 1
        hook = item.ihook
        nextitem = pytest.Class.from_parent(item.session, name="Another")
        pytest.CallInfo.from_call(lambda: hook.pytest_runtest_teardown(item=item, nextitem=nextitem), "teardown")
        item._initrequest()
        pytest.CallInfo.from_call(lambda: hook.pytest_runtest_setup(item=item), "setup")
        call = pytest.CallInfo.from_call(lambda: hook.pytest_runtest_call(item=item), "call")
        report = pytest.TestReport.from_item_and_call(item, call)
    return report
"""
"""As pytest-retry does it: further tries within the first one's report."""

TESTS = """
import pytest, unittest
from conftest import tries
from pytest_vastgpu import command

@pytest.fixture
def vast_workload():
    return command("serve")

def test_before(vast_instance): pass

def test_flaky(vast_instance, request):
    tries[request.node.name] += 1
    assert tries[request.node.name] == 3

class TestOfUnittest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def an_instance(self, vast_instance): pass

    def test_flaky_of_unittest(self):
        tries["unittest"] += 1
        assert tries["unittest"] == 2

def test_plain(): pass

def test_flaky_last(vast_instance):
    tries["last"] += 1
    assert tries["last"] == 2
"""


class Notes:
    """Implements :class:`~pytest_vastgpu.client.calls.Leases` for instances that do not exist."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.given = 0

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        self._note("acquire", test)
        self.given += 1
        return Lease(f"label {self.given}", self.given, make_offer(), "http://127.0.0.1:9", {})

    def done(self, test: str) -> None:
        self._note("done", test)

    def finished(self, test: str) -> None:
        self._note("finished", test)

    def cost(self, label: str) -> float:
        return 0.25

    def spent(self, test: str) -> float:
        return 0.125 * sum(call == f"acquire {test.rpartition('::')[2]}" for call in self.calls)

    def may_ask(self, tests: list[str]) -> None:
        for test in tests:
            self._note("may ask", test)

    def failed(self, label: str) -> None: ...

    def fate(self, label: str, mark: object) -> None: ...

    def logs_since(self, label: str, mark: object) -> str:
        return f"log of {label}"

    def keep_log(self, label: str, mark: object) -> str:
        return ""

    def _note(self, call: str, test: str) -> None:
        self.calls.append(f"{call} {test.rpartition('::')[2]}")


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    """What pytest runs in this process tell their supervisor."""
    notes = Notes()
    monkeypatch.setattr(leases, "_open", lambda *_, **__: notes)
    return notes


def of_tries(name: str, tries: int) -> list[str]:
    return [f"acquire {name}", f"done {name}"] * tries + [f"finished {name}"]


@pytest.mark.parametrize("plugin", [RERUNS, FLAKY, RETRY], ids=["rerunfailures", "flaky", "retry"])
def test_a_test_is_over_after_its_last_try(pytester: pytest.Pytester, notes: Notes, plugin: str) -> None:
    pytester.makeconftest(plugin)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    assert result.parseoutcomes()["passed"] == 5
    assert notes.calls == [
        *of_tries("test_before", 1),
        *of_tries("test_flaky", 3),
        *of_tries("test_flaky_of_unittest", 2),
        "finished test_plain",
        *of_tries("test_flaky_last", 2),
    ]


def test_what_a_try_held_is_not_in_the_report_of_the_next_try(pytester: pytest.Pytester, notes: Notes) -> None:
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(
        TESTS.partition("def test_before")[0]
        + """
def test_flaky(vast_instance, request):
    tries["it"] += 1
    request.node.user_properties.append(("mine", tries["it"]))
    print("handle", vast_instance.id)
    assert tries["it"] == 3

def test_fails(vast_instance):
    assert False
"""
    )
    reports: list[pytest.TestReport] = []

    class Collector:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            reports.append(report)

    pytester.inline_run("-p", "no:randomly", "--junitxml=junit.xml", plugins=[Collector()])
    calls = [report for report in reports if report.when == "call"]
    instances = [[text for name, text in report.sections if name == "vastgpu instance"] for report in calls]
    assert [len(each) for each in instances] == [1, 1, 0, 1], "each failed try has its own instance, no other"
    assert [text.split()[1] for (text,) in (instances[0], instances[1], instances[3])] == ["1", "2", "4"]
    ends = [dict(report.user_properties) for report in reports if report.when == "teardown"]
    assert [(end["vast_instance"], end["vast_cost_usd"]) for end in ends] == [
        (1, 0.125),
        (2, 0.25),
        (3, 0.375),
        (4, 0.125),
    ]
    for case in pytester.path.joinpath("junit.xml").read_text().split("</testcase>")[:-1]:
        names = re.findall('<property name="(vast_[^"]*)"', case)
        assert len(names) == len(set(names)) == 8
    assert ends[2]["mine"] == 3, "what the test itself has noted is its own affair"


def test_a_test_that_was_under_way_before_is_over_when_the_next_one_begins(
    pytester: pytest.Pytester, notes: Notes
) -> None:
    pytester.makeconftest(f"{TRIES}\n")
    pytester.makepyfile(
        TESTS.partition("def test_before")[0]
        + """
@pytest.mark.usefixtures("late")
def test_late(request):
    request.getfixturevalue("vast_instance")

@pytest.fixture
def late(request):
    from pytest_vastgpu.plugin.leases import open_leases
    open_leases(request.session)

def test_next(): pass
"""
    )
    pytester.runpytest_inprocess("-p", "no:randomly").assert_outcomes(passed=2)
    assert notes.calls == ["acquire test_late", "done test_late", "finished test_late", "finished test_next"]


LATE = """
def test_before(): pass
def test_1(request): request.getfixturevalue("vast_instance")
def test_2(tmp_path): pass
def test_plain(): pass
def test_3(request): request.getfixturevalue("vast_instance")
def test_4(request): pass
"""


@pytest.mark.parametrize("worker", [False, True])
def test_who_may_ask_late_is_told_by_the_process_that_tells_its_end(
    pytester: pytest.Pytester, notes: Notes, monkeypatch: pytest.MonkeyPatch, *, worker: bool
) -> None:
    """Which of the later tests a worker will run it does not know, but for the next one."""
    monkeypatch.setattr(leases, "_is_worker", lambda _: worker)
    pytester.makeconftest(f"{TRIES}\n")
    pytester.makepyfile(TESTS.partition("def test_before")[0] + LATE)
    pytester.runpytest_inprocess("-p", "no:randomly").assert_outcomes(passed=6)
    told = [call for call in notes.calls if not call.startswith(("acquire", "done"))]
    ahead = ["may ask test_2", "may ask test_3", "may ask test_4"]
    ends = [f"finished {name}" for name in ("test_1", "test_2", "test_plain", "test_3", "test_4")]
    if worker:
        assert told == [ahead[0], *ends[:2], ahead[1], ends[2], ahead[2], *ends[3:]]
    else:
        assert told == [*ahead, *ends]


def test_a_child_that_goes_on_with_its_parents_tests_ends_none(
    pytester: pytest.Pytester, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(TRIES)
    pytester.makepyfile(TESTS.partition("def test_flaky")[0])

    class Fork:
        def pytest_runtest_call(self) -> None:
            monkeypatch.setattr(leases, "getpid", lambda: os.getpid() + 1)

    pytester.inline_run(plugins=[Fork()])
    assert notes.calls == ["acquire test_before", "done test_before"]


@pytest.mark.parametrize(("outcome", "over"), [("failed", True), ("rerun", False)])
def test_a_test_that_crashed_its_worker_is_over_unless_it_is_tried_again(outcome: str, over: bool) -> None:
    told: list[tuple[str, bool]] = []
    controller = Controller.__new__(Controller)  # without the supervisor that it would start
    controller.process = cast(Any, SimpleNamespace(owned=True))
    controller.calls = cast(Any, SimpleNamespace(crashed=lambda test, over: told.append((test, over))))
    report = pytest.TestReport("t1", ("", None, ""), {}, cast(Any, outcome), "it crashed", cast(Any, "???"))
    controller.pytest_handlecrashitem("t1", report)
    assert told == [("t1", over)]
