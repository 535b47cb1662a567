"""What becomes of a test's result where its instance, or the server on it, has ended: no market, pytest as it is."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from pytest_vastgpu.plugin.reports import LOG_LINES  # once, since runs in this process drop what they load

CONFTEST = """
import pytest

import pytest_vastgpu.plugin.reports  # noqa: F401 - once, since runs in this process drop what they load
from pytest_vastgpu.client.calls import Fate, Lease, Mark
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import FailureClass, Verdict
from pytest_vastgpu.plugin import reports
from pytest_vastgpu.plugin.reporting.junit_log import JunitLog
from tests.support.factories import make_offer


class Leases:
    asked = []
    fate_now = None

    def fate(self, label, mark):
        self.asked.append((label, mark.log))
        return self.fate_now

    def failed(self, label): ...
    def logs_since(self, label, mark): return self.log
    def keep_log(self, label, mark): return self.file
    log, file = "its \\x00 log ]]> \\ud800 end", "vast-artifacts/run/1/server.log"
    def cost(self, label): return 0.0
    def spent(self, test): return 0.0


def pytest_configure(config):
    option = config.getoption("vast_on_infra_failure") or "error"
    config.pluginmanager.register(reports.ReportHooks(option))
    config.pluginmanager.register(JunitLog(config))


def pytest_unconfigure():
    print("asked", len(Leases.asked))


@pytest.fixture
def instance(request):
    Leases.asked.clear()
    Leases.fate_now = None
    lease = Lease("label", 7, make_offer(), "http://x", {}, {}, Mark(0, 5, 0, 1.0), "server started again")
    handle = VastInstance(Leases(), lease)
    reports.hold(request.node, handle)
    return handle


@pytest.fixture
def ends(instance):
    def end(failure_class="infra_fatal", excuses=None):
        verdict = Verdict(FailureClass(failure_class), "why", "a line", "do this")
        excuses = verdict.failure_class.blames_machine if excuses is None else excuses
        Leases.fate_now = Fate("the server ended", verdict, excuses, "what is next", "its last words", "/lost")
    return end


@pytest.fixture
def cls_ends(request, ends):
    request.cls.ends = staticmethod(ends)
"""

TESTS = {
    "plain": "def test_it(ends):\n    ends({kind})\n    assert 1 == 2\n",
    "xfail": "@pytest.mark.xfail(strict=False)\ndef test_it(ends):\n    ends({kind})\n    assert 1 == 2\n",
    "xfail_strict": "@pytest.mark.xfail(strict=True)\ndef test_it(ends):\n    ends({kind})\n    assert 1 == 2\n",
    "xfail_in_it": "def test_it(ends):\n    ends({kind})\n    pytest.xfail('known')\n",
    "xpass": "@pytest.mark.xfail(strict=False)\ndef test_it(ends):\n    ends({kind})\n",
    "xpass_strict": "@pytest.mark.xfail(strict=True)\ndef test_it(ends):\n    ends({kind})\n",
    "teardown": (
        "@pytest.fixture\ndef late(ends):\n    yield\n    ends({kind})\n    assert 1 == 2\ndef test_it(late): pass\n"
    ),
    "subtests": (
        "def test_it(ends, subtests):\n    with subtests.test('one'): pass\n"
        "    with subtests.test('two'):\n        ends({kind})\n        assert 1 == 2\n"
    ),
    "subtest_and_test": (
        "def test_it(ends, subtests):\n    with subtests.test('two'):\n        ends({kind})\n        assert 1 == 2\n"
        "    assert 1 == 2\n"
    ),
    "unittest": (
        "import unittest\n@pytest.mark.usefixtures('cls_ends')\nclass TestIt(unittest.TestCase):\n"
        "    def test_it(self):\n        for n in range(2):\n            with self.subTest(n=n):\n"
        "                self.ends({kind})\n                assert n == 1\n"
    ),
}
STAYS = {
    "plain": {"FAILED": 1},
    "xfail": {"XFAIL": 1},
    "xfail_strict": {"XFAIL": 1},
    "xfail_in_it": {"XFAIL": 1},
    "xpass": {"XPASS": 1},
    "xpass_strict": {"FAILED": 1},
    "teardown": {"PASSED": 1, "ERROR": 1},
    "subtests": {"FAILED": 2},
    "subtest_and_test": {"FAILED": 2},
    "unittest": {"FAILED": 1, "PASSED": 1},
}
"""What pytest alone makes of them."""
if pytest.version_tuple < (9,):
    for name in ("subtests", "subtest_and_test", "unittest"):
        del TESTS[name], STAYS[name]
needs_subtests = pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 8 has no subtests of its own")
_LINE = re.compile(r"(?:SUB)?([A-Z]+)\S* (?:\[(\d+)\] )?test_(\w+)\.py")


def outcomes(
    pytester: pytest.Pytester, tests: dict[str, str], *arguments: str
) -> tuple[dict[str, Counter[str]], pytest.RunResult]:
    """How often each result was told of each test, subtests included that did not pass."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(**{f"test_{name}": f"import pytest\n{test}" for name, test in tests.items()})
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-q", "-rA", *arguments)
    found: dict[str, Counter[str]] = {}
    for line in result.outlines:
        if told := _LINE.match(line):
            found.setdefault(told[3], Counter())[told[1]] += int(told[2] or 1)
    return found, result


def of_kind(kind: str) -> dict[str, str]:
    return {name: test.format(kind=kind) for name, test in TESTS.items()}


def test_the_machines_fault_is_an_error_and_never_a_failure(pytester: pytest.Pytester) -> None:
    found, result = outcomes(pytester, of_kind(""))
    instead = {name: {"ERROR": sum(alone.values())} for name, alone in STAYS.items()}
    assert found == instead | {"teardown": {"PASSED": 1, "ERROR": 1}}
    result.stdout.fnmatch_lines(["*the server ended: infra_fatal: why*", "*what is next*"])
    result.stdout.fnmatch_lines(["*since the test got the instance*", "its last words"])


def test_the_machines_fault_can_skip(pytester: pytest.Pytester) -> None:
    found, result = outcomes(pytester, of_kind(""), "--vast-on-infra-failure=skip")
    instead = {name: {"SKIPPED": sum(alone.values())} for name, alone in STAYS.items()}
    assert found == instead | {"teardown": {"PASSED": 1, "SKIPPED": 1}}
    result.stdout.fnmatch_lines(["*SKIPPED*the server ended: infra_fatal: why*"])


def test_what_the_workload_may_have_done_leaves_the_result_and_is_told(pytester: pytest.Pytester) -> None:
    found, result = outcomes(pytester, of_kind("'unknown'"), "--vast-on-infra-failure=skip")
    assert found == STAYS
    story = ["*vastgpu instance*", "server started again", "*what became of the server*", "the server ended: unknown*"]
    last_words = ["*since the test got the instance*", "its last words"]
    result.stdout.fnmatch_lines([*story, *last_words] * 3)


def test_a_lost_instance_by_our_own_fault_is_an_error_even_where_machines_are_skipped(
    pytester: pytest.Pytester,
) -> None:
    found, _ = outcomes(
        pytester, {"it": TESTS["xfail"].format(kind="'own_fault', True")}, "--vast-on-infra-failure=skip"
    )
    assert found == {"it": {"ERROR": 1}}


@needs_subtests
def test_a_subtest_that_fails_by_itself_fails_its_test_all_the_same(pytester: pytest.Pytester) -> None:
    found, result = outcomes(
        pytester,
        {
            "it": "def test_it(ends, subtests):\n    with subtests.test('one'):\n        assert 1 == 2\n"
            "    with subtests.test('two'):\n        ends()\n        assert 1 == 2\n"
        },
    )
    assert found == {"it": {"FAILED": 2, "ERROR": 1}}
    result.stdout.fnmatch_lines(["its *log ]]> * end"])


def test_the_log_is_that_since_the_test_got_the_instance_and_the_rest_is_named(pytester: pytest.Pytester) -> None:
    change = "    type(instance._leases).log = 'x\\n' * 99\n    assert 1 == 2\n"
    _, result = outcomes(pytester, {"it": f"def test_it(instance):\n{change}"})
    kept = "[all of it, from the server's start on: vast-artifacts/run/1/server.log]"
    section = result.outlines[: result.outlines.index(kept)]
    assert section[-LOG_LINES:] == ["x"] * LOG_LINES
    assert "server log (since the test got the instance)" in section[-LOG_LINES - 1]
    _, result = outcomes(
        pytester, {"it": "def test_it(instance):\n    type(instance._leases).log = ''\n    assert 0\n"}
    )
    result.stdout.fnmatch_lines(["[[]it has printed nothing since]", "[[]all of it, from the server's start on: *]"])


def test_a_test_that_passes_asks_nothing(pytester: pytest.Pytester) -> None:
    _, result = outcomes(pytester, {"it": "def test_it(ends):\n    ends()\n"})
    result.stdout.fnmatch_lines(["asked 0"])
    _, result = outcomes(pytester, {"it": "def test_it(ends):\n    ends()\n    assert 1 == 2\n"})
    result.stdout.fnmatch_lines(["asked 1"])


def test_a_test_that_gave_its_instance_back_keeps_its_own_failure(pytester: pytest.Pytester) -> None:
    closes = "    instance._leases.__class__.keep_log = gone\n    assert 1 == 2, 'my own text'\n"
    gone = "from pytest_vastgpu.errors import VastGpuError\ndef gone(*_): raise VastGpuError('closed')\n"
    found, result = outcomes(pytester, {"it": f"{gone}def test_it(instance):\n{closes}"})
    assert found == {"it": {"FAILED": 1}}
    result.stdout.fnmatch_lines(["*my own text*", "*vastgpu instance*"])


@needs_subtests
def test_the_junit_report_has_an_error_for_the_machines_fault(pytester: pytest.Pytester, tmp_path: Path) -> None:
    outcomes(pytester, {"it": TESTS["subtests"].format(kind="")}, f"--junitxml={tmp_path / 'junit.xml'}")
    assert 'failures="0"' in (tmp_path / "junit.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", ["ConfigurationError", "VastGpuError"])
def test_a_wrong_argument_is_not_buried_under_the_log_of_a_server_that_lives(
    pytester: pytest.Pytester, error: str
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        f"""
        from pytest_vastgpu.errors import {error}
        def test_it(instance): raise {error}("seconds=-1")
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    log = "*vastgpu server log (since the test got the instance)*"
    result.stdout.no_fnmatch_line(log) if error == "ConfigurationError" else result.stdout.fnmatch_lines(log)
    result.stdout.fnmatch_lines(["*seconds=-1", "*vastgpu instance*"])
