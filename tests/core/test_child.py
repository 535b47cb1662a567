"""Modules of this package as processes, whatever lies where they are started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pytest_vastgpu
from pytest_vastgpu.core import child

TELLS = """
import json, os, queue, sys
import pytest_vastgpu, pytest_vastgpu.core.child, paramiko

def main():
    print(json.dumps({
        "json": json.__file__, "queue": queue.__file__, "paramiko": paramiko.__file__,
        "package": pytest_vastgpu.__file__, "arguments": sys.argv[1:],
        "environ": dict(os.environ), "modules": list(sys.modules), "path": sys.path,
    }))
    return 7
"""
BREAKS = "raise SystemExit('a module of the test directory was imported')"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, first in the import path, whose modules are called like others."""
    tmp_path.joinpath("tells_what_it_sees.py").write_text(TELLS)
    for name in ("json", "queue", "random", "site", "paramiko", "importlib", "typing"):
        tmp_path.joinpath(f"{name}.py").write_text(BREAKS)
    for package in ("pytest_vastgpu", "logging"):
        tmp_path.joinpath(package).mkdir()
        tmp_path.joinpath(package, "__init__.py").write_text(BREAKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def run(*arguments: str, cwd: Path | str = ".", environ: dict[str, str] | None = None) -> dict[str, Any]:
    process = subprocess.run(
        child.command("tells_what_it_sees", *arguments),
        cwd=cwd,
        env=child.environment() if environ is None else environ,
        stdout=subprocess.PIPE,
        check=False,
    )
    assert process.returncode == 7, "what main() returns is the exit code"
    told: dict[str, Any] = json.loads(process.stdout)
    return told


def test_no_module_of_the_test_directory_takes_anothers_place(hostile: Path) -> None:
    told = run("--one", "a b")
    assert told["arguments"] == ["--one", "a b"]
    assert told["package"] == pytest_vastgpu.__file__
    for name in ("json", "queue", "paramiko"):
        assert hostile not in Path(told[name]).parents
    assert "pytest" not in told["modules"]


def test_what_the_parent_can_import_the_child_can_too(hostile: Path) -> None:
    """Also from a directory that the parent was told by a relative path."""
    sys.path[0] = ""
    told = run(cwd="/")
    places = told["path"].index
    assert places(str(hostile)) > places(str(Path(told["paramiko"]).parents[1])), "so that it takes nobody's place"
    assert "" not in told["path"]


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("PYTEST_CURRENT_TEST", False),
        ("PYTEST_ADDOPTS", False),
        ("PYTEST_XDIST_WORKER", False),
        ("PYTHONWARNINGS", False),
        ("COVERAGE_PROCESS_START", False),
        ("COVERAGE_FILE", False),
        ("COV_CORE_SOURCE", False),
        ("COVERAGE_PROCESS_CONFIG", True),
        ("PYTHONPATH", True),
        ("VAST_URL", True),
        ("SSH_AUTH_SOCK", True),
        ("LANG", True),
    ],
)
def test_what_pytest_has_set_for_its_own_stays_there(name: str, stays: bool) -> None:
    environ = {name: "x", "HOME": "/h"}
    assert child.environment(environ) == ({name: "x", "HOME": "/h"} if stays else {"HOME": "/h"})
    assert environ == {name: "x", "HOME": "/h"}


def test_more_can_be_left_out() -> None:
    assert child.environment({"A": "x", "B": "y"}, without=("B",)) == {"A": "x"}


def test_warnings_as_errors_of_a_test_run_are_not_the_childs(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile.joinpath("tells_what_it_sees.py").write_text(f"import warnings\nwarnings.warn('old')\n{TELLS}")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert "PYTHONWARNINGS" not in run()["environ"]


def test_the_environment_is_that_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_URL", "http://now")
    assert child.environment()["VAST_URL"] == "http://now"
    monkeypatch.setattr(os, "environ", {"VAST_URL": "a fake"})
    assert child.environment()["VAST_URL"] == "http://now", "a test that replaces os.environ replaces its own"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="there is no pidfd")
def test_the_end_of_a_process_is_noticed_and_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            child.await_end(process, 0.01)
        monkeypatch.setattr("subprocess.time.sleep", lambda _: pytest.fail("it looks again and again"))
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(child.await_end, process, 30.0)
            assert process.stdin is not None
            process.stdin.close()
            assert ended.result() == 0
        monkeypatch.setattr(os, "pidfd_open", lambda _: pytest.fail("the number may be another process's by now"))
        assert child.await_end(process, 30.0) == 0
