"""What a JUnit file says of tests that use instances, or could not have one."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import pytest_vastgpu.plugin.reports  # noqa: F401 - once, since runs in this process drop what they load
from tests.plugin.test_reports import CONFTEST

SETUP_FAILS = """
from pytest_vastgpu.errors import NoOffers, ProvisioningFailed
from pytest_vastgpu.model import Attempt, State
from pytest_vastgpu.plugin import leases
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.settings import Settings


def attempt(number, failure_class, artifacts=""):
    verdict = Verdict(FailureClass(failure_class), f"reason_of_{failure_class}", "a line", "do this")
    return Attempt(number, f"label{number}", make_offer(), number, verdict, State.BOOTING, artifacts=artifacts)


ERRORS = {
    "provisioning": ProvisioningFailed(
        "none became ready", [attempt(1, "infra_fatal", "/evidence/1"), attempt(2, "infra_fatal", "/evidence/2")]
    ),
    "offers": NoOffers("nothing is offered"),
}


@pytest.fixture
def fails(request):
    def ask():
        raise ERRORS[request.param]
    leases.reported(request.node, ask)
"""


def cases(pytester: pytest.Pytester, tests: str, *options: str) -> dict[str, ET.Element]:
    pytester.makeconftest(CONFTEST + SETUP_FAILS)
    pytester.makepyfile(test_it=f"import pytest\n{tests}")
    pytester.runpytest_inprocess("-p", "no:randomly", "--junitxml=junit.xml", *options)
    root = ET.parse(pytester.path / "junit.xml").getroot()  # noqa: S314 - our own file
    return {case.attrib["name"]: case for case in root.iter("testcase")}


def properties(case: ET.Element) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in case.iter("property"):
        found.setdefault(each.attrib["name"], []).append(each.attrib["value"])
    return found


EXPLAINED = ("vast_verdict", "vast_reason", "vast_attempts", "vast_artifacts")
ALL = """
@pytest.mark.parametrize("fails", ["provisioning", "offers"], indirect=True)
def test_setup(fails): pass

def test_lost(ends):
    ends("runtime_lost")
    assert 1 == 2

def test_own(ends):
    ends("unknown")
    assert 1 == 2

def test_passes(instance): pass

def test_fails(instance): assert 1 == 2

@pytest.fixture
def late(ends):
    yield
    ends()
    assert 1 == 2

def test_teardown(late): pass

@pytest.fixture
def fails_late(instance):
    yield
    assert 1 == 2

def test_its_teardown_fails(fails_late): pass

def test_all_of_it_fails(fails_late): assert 1 == 2
"""


@pytest.mark.parametrize(
    "options", [(), ("-o", "junit_family=xunit1"), pytest.param(("-n1",), marks=pytest.mark.slow)], ids=" ".join
)
def test_whose_fault_it_was_is_a_property_also_of_errors(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    found = cases(pytester, ALL, *options)
    told = {
        name: {key: value for key in EXPLAINED if (value := properties(case).get(key))} for name, case in found.items()
    }
    had_one = {"vast_attempts": ["1"]}
    kept = {"vast_artifacts": ["vast-artifacts/run/1"]} | had_one
    lost = {"vast_reason": ["why"], "vast_artifacts": ["/lost"]} | had_one
    assert told == {
        "test_setup[provisioning]": {
            "vast_verdict": ["infra_fatal"],
            "vast_reason": ["reason_of_infra_fatal"],
            "vast_attempts": ["2"],
            "vast_artifacts": ["/evidence/1", "/evidence/2"],
        },
        "test_setup[offers]": {"vast_verdict": ["own_fault"], "vast_reason": ["no_offers"]},
        "test_lost": {"vast_verdict": ["runtime_lost"]} | lost,
        "test_own": {"vast_verdict": ["unknown"]} | lost,
        "test_passes": had_one,
        "test_fails": kept,
        "test_its_teardown_fails": kept,
        "test_all_of_it_fails": kept,
        "test_teardown": {"vast_verdict": ["infra_fatal"]} | lost,
    }


def test_a_defect_of_ours_changes_no_result(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_vastgpu.plugin.reporting.junit_log.show", lambda *_: 1 / 0)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("def test_one(instance): pass\ndef test_two(instance): assert 1 == 2")
    result = pytester.runpytest_inprocess("--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    assert str(result.stdout).count("a defect of pytest-vastgpu") == 1


AGAIN = """
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem, log=False)
    item._initrequest()
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""


def test_of_a_test_that_is_tried_again_only_the_last_try_counts(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(again=f"import pytest\n{AGAIN}")
    test = """
tries = []
def test_it(ends):
    tries.append(1)
    if len(tries) == 1:
        ends("infra_fatal")
        assert 1 == 2

def test_fails_twice(ends):
    ends("unknown" if len(tries) else "infra_fatal")
    assert 1 == 2

@pytest.mark.parametrize("fails", ["provisioning"], indirect=True)
def test_setup(fails): pass
"""
    pytester.syspathinsert()
    found = cases(pytester, test, "-p", "again")
    assert "vast_verdict" not in properties(found["test_it"])
    assert properties(found["test_it"])["vast_instance"] == ["7"]
    assert properties(found["test_fails_twice"])["vast_verdict"] == ["unknown"]
    assert properties(found["test_setup[provisioning]"])["vast_attempts"] == ["2"]


def test_what_a_test_has_caught_and_got_over_is_not_said(pytester: pytest.Pytester) -> None:
    test = """
def test_it(request):
    def ask(): raise ERRORS["provisioning"]
    with pytest.raises(pytest.fail.Exception):
        leases.reported(request.node, ask)
"""
    found = cases(pytester, "from conftest import ERRORS, leases\n" + test)
    assert "vast_verdict" not in properties(found["test_it"])


LOGS = """
def test_passes(instance): print("its own", end="")

def test_fails(instance):
    print("its own")
    assert 1 == 2

def test_lost(ends):
    ends("infra_fatal")
    assert 1 == 2
"""
HEADING = "--- server log of instance 7 since the test got it ---\nits \\u0000 log ]]> \\ud800 end"


def outputs(found: dict[str, ET.Element]) -> dict[str, str]:
    return {name: "".join(each.text or "" for each in case.iter("system-out")) for name, case in found.items()}


@pytest.mark.parametrize(
    "options", [(), ("-o", "junit_logging=log"), pytest.param(("-n1",), marks=pytest.mark.slow)], ids=" ".join
)
def test_the_servers_log_of_a_test_that_has_not_passed_is_there_unasked(
    pytester: pytest.Pytester, options: tuple[str, ...]
) -> None:
    found = outputs(cases(pytester, LOGS, *options))
    assert found.pop("test_passes").count(HEADING) == 0
    assert {name: text.count(HEADING) for name, text in found.items()} == dict.fromkeys(found, 1)
    assert "its own" not in found["test_fails"], "which nobody has asked for"


@pytest.mark.parametrize("logging", ["system-out", "out-err", "all"])
def test_the_servers_log_is_the_tests_output(pytester: pytest.Pytester, logging: str) -> None:
    found = outputs(cases(pytester, LOGS, "-o", f"junit_logging={logging}"))
    assert {name: text.count(HEADING) for name, text in found.items()} == dict.fromkeys(found, 1)
    assert f"its own\n{HEADING}" in found["test_passes"]
    assert f"its own\n{HEADING}" in found["test_fails"]


def test_the_log_of_tests_that_pass_can_be_left_out(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["-o", "junit_logging=system-out", "-o", "junit_log_passing_tests=false"]
    found = outputs(cases(pytester, LOGS, *options))
    assert found["test_passes"] == ""
    assert HEADING in found["test_fails"]
    assert "all of the log" not in capsys.readouterr().out, "it is shown once"
