"""What a run writes for GitHub, where, and how often. No market: tests have an instance that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

import pytest_vastgpu.plugin.reporting.github
import pytest_vastgpu.plugin.reporting.test_records
import pytest_vastgpu.plugin.reports
import pytest_vastgpu.reporting.github
import pytest_vastgpu.reporting.run.reader  # noqa: F401 - all once, since runs in this process drop what they load
from tests.plugin.test_reports import CONFTEST

SHOWS = """
import os
from pathlib import Path
from pytest_vastgpu.plugin.reporting import github
from pytest_vastgpu.plugin.reporting.test_records import TestRecords
from pytest_vastgpu.reporting.alive import kept

ALIVE = [kept(4711, 0.36, 1_800_000_000.0, 1800.0, "ssh root@host")]


class Shows:
    '''Does what the controller does, without a supervisor.'''

    def __init__(self, config):
        self.directory = Path(config.rootpath) / "run"
        self.directory.mkdir(exist_ok=True)
        self.records = TestRecords(config, self.directory)
        config.pluginmanager.register(self.records)
        self.github = github.show(config)

    def pytest_sessionfinish(self, exitstatus):
        self.records.end(int(exitstatus))
        if self.github is not None:
            self.github.finish(self.directory, ALIVE if os.environ.get("KEEPS") else ())

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter):
        if self.github is not None:
            self.github.annotate(terminalreporter)


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Shows(session.config))
"""
TESTS = """
import pytest

def test_lost(ends):
    ends("runtime_lost")
    assert 1 == 2

def test_own(instance):
    assert 1 == 2

def test_passes(instance): pass
"""


@pytest.fixture
def summary(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a job's summary, as GitHub gives it to a step; annotations are asked for, too."""
    path = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path.parent))
    return path


def run(pytester: pytest.Pytester, *options: str, tests: str = TESTS, nested: bool = False) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST + SHOWS)
    pytester.makepyfile(test_it=tests)
    with pytest.MonkeyPatch.context() as patch:
        if not nested:
            patch.delenv("PYTEST_CURRENT_TEST")  # what this test starts is no run of its own to us
        return pytester.runpytest_inprocess("-p", "no:randomly", *options)


def commands(result: pytest.RunResult) -> list[str]:
    return [line for line in (*result.outlines, *result.errlines) if line.startswith("::")]


@pytest.mark.parametrize("options", [(), ("-q",), pytest.param(("-n2",), marks=pytest.mark.slow)], ids=" ".join)
def test_a_run_adds_its_section_and_annotates_each_test_once(
    pytester: pytest.Pytester, summary: Path, options: tuple[str, ...]
) -> None:
    summary.write_text("what another command has written")
    result = run(pytester, *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = summary.read_text()
    head = "## pytest-vastgpu: 1 test failed, 1 test without a result by a host's fault"
    assert text.startswith(f"what another command has written\n\n{head}\n")
    here = pytester.path.name
    own, lost = commands(result)
    assert own.startswith(f"::error file={here}/test_it.py,line=8,title=test_it.py%3A%3Atest_own failed::")
    assert lost.startswith(
        f"::warning file={here}/test_it.py,line=3,title=Not the test's fault%3A runtime_lost%3A why:"
    )
    run(pytester, *options)
    assert summary.read_text().count(head) == 2, "each run has a section of its own"


def test_a_test_with_a_name_too_long_to_show_is_annotated_at_its_line(pytester: pytest.Pytester, summary: Path) -> None:
    long = "import pytest\n@pytest.mark.parametrize('x', ['x' * 3000])\ndef test_it(instance, x):\n    assert 0\n"
    (command,) = commands(run(pytester, tests=long))
    assert command.startswith(f"::error file={pytester.path.name}/test_it.py,line=4,title=")
    assert summary.exists()


def test_what_is_alive_is_shown_though_all_tests_pass(
    pytester: pytest.Pytester, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPS", "1")
    result = run(pytester, tests="def test_passes(instance): pass")
    assert "vastgpu destroy 4711" in summary.read_text()
    (notice,) = commands(result)
    assert notice.startswith("::notice title=vastgpu%3A instance 4711 goes on costing money::KEPT: instance 4711 ")


def test_a_test_that_another_plugin_annotates_is_not_annotated_again(pytester: pytest.Pytester, summary: Path) -> None:
    other = "def pytest_configure(config): config.pluginmanager.register(object(), 'annotate_errors')\n"
    pytester.makepyfile(other=other)
    pytester.syspathinsert()
    (lost,) = commands(run(pytester, "-p", "other"))
    assert "test_lost" in lost
    assert "test_own" in summary.read_text()


@pytest.mark.parametrize(
    ("missing", "section", "annotated"), [("GITHUB_STEP_SUMMARY", False, True), ("GITHUB_ACTIONS", True, False)]
)
def test_each_is_there_where_github_asks_for_it(
    pytester: pytest.Pytester,
    summary: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    section: bool,
    annotated: bool,
) -> None:
    monkeypatch.delenv(missing)
    result = run(pytester)
    assert summary.exists() == section
    assert bool(commands(result)) == annotated


def test_nothing_is_written_where_nothing_of_ours_has_happened(pytester: pytest.Pytester, summary: Path) -> None:
    result = run(pytester, tests="def test_it(): assert 1 == 2")
    assert not summary.exists()
    assert commands(result) == []


def test_a_run_within_a_test_of_another_run_shows_nothing(pytester: pytest.Pytester, summary: Path) -> None:
    result = run(pytester, nested=True)
    assert not summary.exists()
    assert commands(result) == []


def test_a_summary_that_cannot_be_written_is_told_and_changes_nothing(
    pytester: pytest.Pytester, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary.parent / "missing" / "summary.md"))
    result = run(pytester)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["vastgpu: the summary on GitHub, *missing/summary.md cannot be written: No such file*"]
    )
    assert len(commands(result)) == 2, "what can be shown is"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    summary.write_text("x" * (1 << 20))
    run(pytester, tests="def test_it(instance): pass").stdout.fnmatch_lines(["*has no room for this run*"])
    assert summary.stat().st_size == 1 << 20
