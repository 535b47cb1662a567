"""ProgressReporter lines between whatever pytest prints: whole, once each, and in their order."""

from __future__ import annotations

import re

import pytest

EVENTS = 60
PLUGIN = f"""
import threading, time
import pytest
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.plugin.terminal import ProgressReporter

@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    config = session.config
    if not hasattr(config, "workerinput"):
        distributed = bool(config.getoption("numprocesses", None))
        progress = ProgressReporter(config, own_thread=distributed, header=["the header", "more of it"])
        config.pluginmanager.register(progress, "progress")
        config.pluginmanager.register(Teller(progress), "teller")
        if not config.pluginmanager.has_plugin("terminalreporter"):
            return
        writer = config.get_terminal_writer()
        write = writer.write

        def write_and_pause(*text, **markup):  # so that others get their turn in the middle of a line
            write(*text, **markup)
            time.sleep(0.001)

        writer.write = write_and_pause

class Teller:
    def __init__(self, progress):
        self.progress = progress
        self.thread = threading.Thread(target=self.tell)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self):
        if not self.thread.ident:
            self.thread.start()

    def tell(self):
        for number in range({EVENTS}):
            self.progress.tell(Event("", None, f"event {{number}}"))
            self.progress.tell(Event("", None, f"detail {{number}}", detail=True))
            time.sleep(0.002)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self):
        self.progress.pump()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self):
        result = yield
        self.thread.join()
        self.progress.close()
        return result
"""
TESTS = """
import pytest, time

@pytest.mark.parametrize("n", range(30))
def test_it(n):
    print("captured", n)
    time.sleep(0.002)
"""


def run(pytester: pytest.Pytester, *options: str) -> list[str]:
    pytester.makeconftest(PLUGIN)
    pytester.makepyfile(test_one=TESTS, test_two=TESTS)
    result = pytester.runpytest_inprocess("-p", "no:randomly", *options)
    result.assert_outcomes(passed=60)
    return result.outlines


def told(lines: list[str]) -> list[str]:
    return [line for line in lines if "event" in line]


WHOLE = [f"vastgpu event {number}" for number in range(EVENTS)]


def test_dots_go_on_with_their_files_name(pytester: pytest.Pytester) -> None:
    lines = run(pytester)
    assert told(lines) == WHOLE
    dots = [line for line in lines if re.search(r"\.\.|\s\.|^\.", line) and "event" not in line]
    assert all(re.fullmatch(r"test_(one|two)\.py \.+( +\[ *\d+%\])?", line) for line in dots), dots
    assert sum(line.split("[")[0].count(".") - 1 for line in dots) == 60
    assert len(dots) > 2
    between = lines[lines.index(dots[0]) : lines.index(dots[-1])]
    assert "" not in between


@pytest.mark.slow
def test_dots_of_workers_stand_on_lines_of_their_own(pytester: pytest.Pytester) -> None:
    lines = run(pytester, "-n2")
    assert told(lines) == WHOLE
    dots = [line for line in lines if re.match(r"\.", line)]
    assert all(re.fullmatch(r"\.+( +\[ *\d+%\])?", line) for line in dots), dots
    assert sum(line.count(".") for line in dots) == 60


@pytest.mark.parametrize(
    "options",
    [["-v"], pytest.param(["-v", "-n2"], marks=pytest.mark.slow), pytest.param(["-n2", "-s"], marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_verbose_lines_are_whole(pytester: pytest.Pytester, options: list[str]) -> None:
    lines = run(pytester, *options)
    assert told(lines) == WHOLE
    if "-v" in options:
        passed = [re.search(r"test_(one|two)\.py::test_it\[\d+\]", line) for line in lines if "PASSED" in line]
        assert len({found.group() for found in passed if found}) == 60


@pytest.mark.slow
def test_without_capturing_nothing_is_lost(pytester: pytest.Pytester) -> None:
    lines = run(pytester, "--capture=no")
    assert told(lines) == WHOLE
    assert sum("captured" in line for line in lines) == 60


def test_what_is_a_detail_is_shown_only_to_those_who_want_to_see_more(pytester: pytest.Pytester) -> None:
    assert not any("vastgpu detail" in line for line in run(pytester))
    assert sum("vastgpu detail" in line for line in run(pytester, "-v")) == EVENTS


@pytest.mark.parametrize("options", [["-q"], pytest.param(["-q", "-n2"], marks=pytest.mark.slow)], ids=" ".join)
def test_quiet_says_the_header_and_nothing_else(pytester: pytest.Pytester, options: list[str]) -> None:
    lines = run(pytester, *options)
    assert told(lines) == []
    assert lines.count("vastgpu: the header") == lines.count("vastgpu: more of it") == 1


def test_without_a_terminal_nothing_is_printed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(PLUGIN)
    pytester.makepyfile(test_one=TESTS)
    result = pytester.runpytest_inprocess("-p", "no:terminal")
    assert result.ret == pytest.ExitCode.OK
    assert result.stdout.str().strip() == ""


WAITS = """
import pytest
from pytest_vastgpu.plugin.terminal import ProgressReporter
from pytest_vastgpu.reporting.waiting import Waiting

LONG = Waiting("vllm 'org/model'", 270.0, "loading weights 3/8", 123, "RTX 4090", "warm-up window", 600.0, 290.0, 0.021)

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    progress = ProgressReporter(config, own_thread=False, header=[])
    config.pluginmanager.register(progress, "vastgpu-progress")

@pytest.fixture
def wait(pytestconfig):
    progress = pytestconfig.pluginmanager.get_plugin("vastgpu-progress")
    progress.take_waits([LONG])
    progress.pump()  # no test of this process waits: this report is of no wait of now
    with progress.wait_for("an instance"):
        progress.pump()
        progress.take_waits([LONG])
        progress.pump()
        progress.pump()
    progress.pump()
"""
LINE = re.compile(
    r"vastgpu: waiting 4 min \d+ s for vllm 'org/model' on instance 123 \(RTX 4090\): loading weights 3/8; "
    r"warm-up window 10 min, 4 min \d+ s left; 0\.0210 USD so far"
)


@pytest.mark.parametrize(("option", "times"), [("-v", 1), ("-q", 1), ("-s", 1), ("-qq", 0)])
def test_without_a_terminal_a_long_wait_is_a_line(pytester: pytest.Pytester, option: str, times: int) -> None:
    pytester.makeconftest(WAITS)
    pytester.makepyfile("def test_one(wait): pass\ndef test_two(): pass")
    result = pytester.runpytest_inprocess(option, "-p", "no:randomly")
    assert result.ret == pytest.ExitCode.OK
    told = [line for line in result.outlines if line.startswith("vastgpu")]
    assert len(told) == times
    assert all(LINE.fullmatch(line) for line in told)


SUMMARY = """
import pytest
import pytest_vastgpu.reporting.summary
from pytest_vastgpu.client.calls import Kept, Summary
from pytest_vastgpu.plugin.terminal import summarise
from tests.reporting.test_cost_file import BOOKS

def pytest_terminal_summary(terminalreporter, config):
    with pytest.MonkeyPatch.context() as patch:
        if "broken" in str(config.args):
            patch.setattr(pytest_vastgpu.reporting.summary, "table", None)
        summarise(terminalreporter, Summary(BOOKS, [], [Kept(7, "ssh root@x", 0.36, 2e9, 60.0)], "/runs/ab/cost.json"))
"""


def summary_of(pytester: pytest.Pytester, name: str, *options: str) -> list[str]:
    pytester.makeconftest(SUMMARY)
    path = pytester.makepyfile(**{name: "def test_it(): pass"})
    result = pytester.runpytest_inprocess("-p", "no:randomly", str(path), *options)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    return result.outlines


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_summary_fits_the_terminal(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = summary_of(pytester, "test_fits")
    assert max(map(len, lines[lines.index("") :])) <= int(columns)
    assert any(re.fullmatch("-+ vastgpu: 3 instances \\(1 failed\\), 0.0000 USD -+", line) for line in lines)
    assert "vastgpu: costs are in /runs/ab/cost.json" in lines
    assert ("workload" in "".join(lines)) == (columns == "200")


def test_quiet_keeps_what_failed_and_what_is_alive(pytester: pytest.Pytester) -> None:
    lines = summary_of(pytester, "test_quiet", "-q")
    assert not any(line.startswith(("machine", "vastgpu: costs")) for line in lines)
    assert any(line.startswith("vastgpu: KEPT: instance 7 until ") for line in lines)


def test_a_defect_in_the_summary_is_a_line_and_hides_nothing_else(pytester: pytest.Pytester) -> None:
    lines = summary_of(pytester, "test_broken")
    told = [line for line in lines if "the summary of the instances cannot be made: TypeError" in line]
    assert len(told) == 1
    assert any(line.startswith("vastgpu: KEPT: instance 7 until ") for line in lines)
