"""``--vast-report``: what is wrong with it is said before anything is rented, and it never changes a result."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pytest_vastgpu.reporting.page.render
import pytest_vastgpu.reporting.run.reader  # noqa: F401 - once, since runs in this process drop what they load
from pytest_vastgpu.plugin.reporting import html_report
from pytest_vastgpu.plugin.reporting.defects import guarded
from pytest_vastgpu.plugin.reporting.html_report import CONTROLLER
from pytest_vastgpu.plugin.reporting.html_report import PytestHtmlPanel
from pytest_vastgpu.reporting.alive import warm

if find_spec("jinja2"):
    import jinja2  # noqa: F401 - once, as above

PASSES = "def test_it(): pass"


@pytest.fixture
def without_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_report, "find_spec", lambda name: None if name == "jinja2" else find_spec(name))


@pytest.mark.usefixtures("without_jinja")
def test_without_jinja_it_says_what_to_install(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--vast-report=out.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    install = "pip install 'pytest-vastgpu[report]'"
    line = f"ERROR: --vast-report=out.html (command line): the report needs Jinja2, which is not installed: {install}"
    assert line in result.stderr.lines


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("none/out.html", "the directory */none does not exist: make it, or name a file elsewhere"),
        (".", "* is a directory: name a file in it, *"),
    ],
)
def test_a_file_that_cannot_be_is_a_usage_error(pytester: pytest.Pytester, file: str, problem: str) -> None:
    pytest.importorskip("jinja2")
    pytester.makepyfile(PASSES)
    result = pytester.runpytest_inprocess(f"--vast-report={file}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --vast-report={file} (command line): {problem}"])


def test_a_directory_that_cannot_be_written_is_a_usage_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))  # as root, too
    result = pytester.runpytest_inprocess("--vast-report=out.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --vast-report=out.html (command line): * cannot be written: *"])


def test_a_run_that_rents_nothing_replaces_an_old_report(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    pytester.makepyfile(PASSES)
    out = pytester.path / "out.html"
    out.write_text("of an earlier run")
    monkeypatch.setenv("VAST_REPORT", "out.html")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"vastgpu: the report is {out}"])
    assert "No test of this run needed an instance" in out.read_text()
    assert sorted(path.name for path in pytester.path.glob("*.html")) == ["out.html"]


def test_the_panel_is_of_a_run_that_is_over_and_has_what_is_alive(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    event = {"time": 1.0, "label": "vastgpu-3f9c21ab-1-6b0c5e85", "state": "ready", "text": "", "instance_id": 42}
    (tmp_path / "events.jsonl").write_text(json.dumps(event))
    (tmp_path / "tests.json").write_text('{"over": true, "exit_status": 2}')
    plugins = {CONTROLLER: SimpleNamespace(alive=[warm(42, "w", 0.3, 9.0)])}
    monkeypatch.setattr(pytestconfig.pluginmanager, "get_plugin", plugins.get)
    prefix: list[str] = []
    session: Any = None
    PytestHtmlPanel(pytestconfig, tmp_path, lambda _session: None).pytest_html_results_summary(prefix, session)
    assert "<h2>vastgpu: The run was interrupted</h2>" in prefix[0]
    assert "WARM: instance 42 (w) until 00:00:09 UTC on 01 Jan, at 0.300 USD/h: run <code>vastgpu down" in prefix[0]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "cannot be written: No space left on device; the results of *"),
        (KeyError("x\n::error::y"), "cannot be made: KeyError: *, a defect of pytest-vastgpu: please report it; *"),
    ],
)
def test_a_report_that_cannot_be_made_changes_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    pytest.importorskip("jinja2")

    def fail(_path: Path, _text: str) -> None:
        raise error

    monkeypatch.setattr(html_report, "write_whole", fail)
    pytester.makepyfile(PASSES)
    result = pytester.runpytest_inprocess("--vast-report=out.html")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"vastgpu: the report * {told}"])
    result.stdout.no_fnmatch_line("*the report is*")


def test_the_guard_has_a_line_where_pytest_has_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    class Manager:
        def get_plugin(self, _name: str) -> None: ...

    class Config:
        pluginmanager = Manager()
        stash = pytest.Stash()

    config: Any = Config()
    for _ in range(2):  # what is made after each test fails after each
        with guarded(config, "the report x"):
            raise ValueError("two\nlines")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_the_guard_says_begins_a_line_also_behind_the_dots_of_a_quiet_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.setattr(html_report, "write_whole", lambda *_: Path("/missing/file").read_text())
    pytester.makepyfile(PASSES)
    result = pytester.runpytest_inprocess("-q", "--vast-report=out.html")
    result.stdout.fnmatch_lines(["vastgpu: the report * cannot be written: No such file or directory; *"])
