"""The collection at home, in a process of its own."""

from __future__ import annotations

import sys

import pytest

from pytest_vastgpu.plugin.on_host.at_home import CollectionError
from pytest_vastgpu.plugin.on_host.at_home import MarkSeen
from pytest_vastgpu.plugin.on_host.at_home import Seen
from pytest_vastgpu.plugin.on_host.at_home import collect

MODULE = """
import pytest

pytestmark = pytest.mark.vast(gpu_name="RTX 4090")

@pytest.mark.parametrize("number", range(3))
def test_many(number):
    print("what a test module prints is not shown")

@pytest.mark.vast(gpus=2)
def test_two(): pass

@pytest.mark.skip
@pytest.mark.vast(gpus=4)
def test_skipped(): pass

@pytest.mark.vast(gpus=-1)
def test_wrong(): pass

def test_serves(vast_instance): pass
"""


def seen(pytester: pytest.Pytester, *args: str) -> Seen:
    return collect(pytester.parseconfig("-p", "no:randomly", *args), lambda _: None)


def test_what_is_selected_and_what_it_asks_for(pytester: pytest.Pytester, capfd: pytest.CaptureFixture[str]) -> None:
    pytester.makepyfile(test_a=MODULE)
    pytester.makepyfile(test_b="import not_installed_here")
    memory = pytester.path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    memory.parent.mkdir(parents=True)
    memory.write_text('{"test_a.py::test_two": true}')
    found = seen(pytester, "--junitxml=report.xml", "-k", "not serves", "--vast-hosts=1", "--vast-plan")
    assert found == Seen(
        selected=6,
        marks=[
            MarkSeen("test_a.py::test_many[0]", "", {"gpu_name": "RTX 4090"}),
            MarkSeen("test_a.py::test_two", "", {"gpu_name": "RTX 4090", "gpus": 2}),
        ],
        errors=[CollectionError("test_b.py", "ModuleNotFoundError", "No module named 'not_installed_here'")],
        problems=["test_a.py::test_wrong: marker vast: gpus=-1 is below 0"],
        exit_code=found.exit_code,
        said=found.said,
    )
    # The run itself remembers and writes what there is to be remembered and written.
    assert memory.read_text() == '{"test_a.py::test_two": true}'
    assert not (pytester.path / "report.xml").exists()
    assert capfd.readouterr() == ("", "")
    assert "test_a" not in sys.modules


@pytest.mark.slow
def test_plugins_that_report_leave_that_to_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        reporting="""
        class Report:
            def pytest_sessionfinish(self): open("report", "w").close()
        def pytest_addoption(parser): parser.addoption("--tap-files", action="store_true")
        def pytest_configure(config): config.pluginmanager.register(Report())
        def pytest_terminal_summary(): open("summary", "w").close()
        """
    )
    folder = pytester.mkdir("pytest_tap-1.dist-info")
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-tap\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[pytest11]\ntap = reporting\n")
    pytester.makeconftest("def pytest_sessionfinish(): open('own', 'w').close()")
    pytester.makepyfile(test_a="def test_it(): pass")
    pytester.syspathinsert()
    found = seen(pytester, "--tap-files")
    assert (found.selected, found.exit_code) == (1, 0)
    assert {path.name for path in pytester.path.iterdir() if not path.suffix} - {"__pycache__"} == {"own"}


@pytest.mark.slow
def test_a_module_that_skips_itself_here_may_run_on_a_host(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a="import pytest\ntorch = pytest.importorskip('not_installed_here')\ndef test_it(): pass",
        test_b="import pytest\npytest.skip('no CUDA\\nat all', allow_module_level=True)",
        test_c="import unittest\nraise unittest.SkipTest('no CUDA')",
        test_d="import pytest\n@pytest.mark.skip\ndef test_it(): pass",
    )
    found = seen(pytester)
    assert found.errors[0].text.startswith("could not import 'not_installed_here': No module named ")
    assert [(each.where, each.kind) for each in found.errors] == [(f"test_{x}.py", "Skipped") for x in "abc"]
    assert [each.text for each in found.errors[1:]] == ["no CUDA", "no CUDA"]


@pytest.mark.slow
def test_a_test_with_a_server_is_seen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_a=MODULE)
    assert seen(pytester, "test_a.py::test_serves").asks == "test_a.py::test_serves"


def test_a_process_that_crashes_has_an_exit_code_and_a_last_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import os, sys\nsys.__stderr__.write('bye\\n')\nsys.__stderr__.flush()\nos._exit(7)")
    found = seen(pytester, "-s")
    assert (found.exit_code, found.said) == (7, "bye")


@pytest.mark.slow
def test_modules_of_the_project_do_not_hide_those_of_python(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(pytester.path))])
    pytester.makepyfile(json="raise SystemExit('of the project')", **{"sub/test_a": "def test_it(): pass"})
    found = seen(pytester, "sub")
    assert (found.selected, found.exit_code) == (1, 0)


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--vast-hosts=2", *args)


@pytest.mark.slow
def test_where_nothing_is_selected_nothing_is_rented(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = run(pytester, "-k", "another")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["vastgpu: no test is selected, so nothing is rented"])
    assert "renting" not in result.stdout.str()


def test_a_path_that_does_not_exist_is_pytests_own_usage_error(pytester: pytest.Pytester) -> None:
    result = run(pytester, "nowhere.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.stderr.lines if line] == ["ERROR: file or directory not found: nowhere.py"]


@pytest.mark.slow
def test_what_tests_need_is_asked_for_before_anything_is_rented(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import not_installed_here")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: vastgpu: *.py: ModuleNotFoundError: No module named 'not_installed_here': *"])
    assert "renting" not in result.stdout.str()


@pytest.mark.slow
def test_so_it_is_where_a_module_skips_itself_here(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_k="import pytest\npytest.skip('no CUDA', allow_module_level=True)")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: vastgpu: test_k.py: Skipped: no CUDA: it cannot be collected here, so what *"])
