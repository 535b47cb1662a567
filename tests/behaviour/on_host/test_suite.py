"""A suite with all that tests are written with: the same comes out of xdist's workers here and of those on hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.hidden import HiddenHosts
from tests.support.hidden import Ran
from tests.support.hidden import hidden_hosts as hidden_hosts

SUITE = Path(__file__).parent / "suite"
WITHOUT = [word for name in ("anyio", "platformdirs") for word in ("-p", f"no:{name}")]
"""Plugins that are installed with our tools, and not on the hosts."""
Case = tuple[tuple[str, str, str], ...]


@pytest.fixture
def project(hidden_hosts: HiddenHosts) -> HiddenHosts:
    shutil.copytree(SUITE, hidden_hosts.project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    hidden_hosts.write({})
    return hidden_hosts


def ran(project: HiddenHosts, *arguments: str, cwd: str = ".", **variables: str) -> Ran:
    """A run from a directory of the project, here or on hosts."""
    done = subprocess.run(
        project.command(*arguments),
        cwd=project.project / cwd,
        env=project.environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    sys.stdout.write(done.stdout)
    return Ran(done.returncode, done.stdout)


def neutral(text: str) -> str:
    """A text without what must differ: addresses, times, and where the project and a worker's files are."""
    text = re.sub(r"(/[^\s'\":]+)?/(project|tmp|pytest-\d+)(?=/|\b)", "<place>", text)
    return re.sub(r"0x[0-9a-f]+|popen-gw\d+|\bgw\d+\b|\d+\.\d\ds", "<one>", text)


def cases(path: Path) -> dict[str, list[Case]]:
    """What a JUnit file says of each test."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - we have written it
        name = "::".join(case.get(key, "") for key in ("file", "classname", "name"))
        parts = [
            (part.tag, neutral(str(sorted(part.items()))), neutral(part.text or ""))
            for part in case.iter()
            if part is not case
        ]
        found[name].append(tuple(sorted([*parts, ("extra", case.get("extra", ""), case.get("line", ""))])))
    return {name: sorted(several) for name, several in found.items()}


def summary(output: str) -> list[str]:
    """The lines of the summary, without what must differ."""
    _, found, last = output.rpartition("short test summary info")
    return sorted(neutral(line) for line in last.splitlines()[1:-1]) if found else []


def same(project: HiddenHosts, *arguments: str, cwd: str = ".", **variables: str) -> dict[str, list[Case]]:
    """See that a run says the same here and on two hosts; what it says."""
    variables = {"PYTHONPATH": str(project.project / "src"), **variables}
    cache, before = project.project / ".pytest_cache", project.project.parent / "cache before"
    if cache.exists():
        shutil.copytree(cache, before)
    home = ran(project, "-n2", *WITHOUT, f"--junitxml={project.project}/home.xml", *arguments, cwd=cwd, **variables)
    if before.exists():
        shutil.rmtree(cache)
        shutil.copytree(before, cache)
    hosts = ran(
        project,
        *("--vast-hosts=2", "--vast-gpus=0", *WITHOUT, f"--junitxml={project.project}/hosts.xml", *arguments),
        cwd=cwd,
        **variables,
    )
    there, here = (cases(project.project / f"{name}.xml") for name in ("hosts", "home"))
    differ = {name for name in {*there, *here} if there.get(name) != here.get(name)}
    assert {name: there.get(name) for name in differ} == {name: here.get(name) for name in differ}
    assert summary(hosts.output) == summary(home.output)
    assert hosts.code == home.code
    return here


def test_all_of_it_is_the_same(project: HiddenHosts) -> None:
    assert len(same(project)) > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["-k", "diffs and not dict"],
        ["-m", "heavy"],
        ["-rA", "--tb=short", "--durations=3", "-k", "diffs or fixtures"],
        ["--tb=line", "-k", "fixtures or skip"],
        ["-p", "no:logging", "-k", "diffs"],
        ["--import-mode=importlib", "tests/package", "tests/flat"],
        ["-c", "other.ini", "tests/flat"],
        ["--rootdir=.", "-o", "junit_family=xunit2", "tests/flat"],
        ["--deselect", "tests/unit/test_diffs.py::test_sets", "tests/unit/test_diffs.py"],
        ["tests/with space/test_spaces.py::test_path[a/b c]", "tests/unit/test_parameters.py::test_kinds"],
        ["--doctest-glob=*.txt", "tests/flat"],
        ["--pyargs", "kernels"],
        ["--capture=no", "tests/unit/test_diffs.py"],
        ["--strict-config", "-W", "error", "tests/flat"],
        ["--dist=loadfile", "tests/unit/deep", "tests/package"],
        ["tests/nowhere"],
    ],
    ids=" ".join,
)
def test_arguments_mean_the_same(project: HiddenHosts, arguments: list[str]) -> None:
    project.write({"other.ini": "[pytest]\npython_functions = test_flat\n"})
    if arguments == ["tests/nowhere"]:
        assert ran(project, "--vast-hosts=2", "--vast-gpus=0", *arguments).code == pytest.ExitCode.USAGE_ERROR
    else:
        assert same(project, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--lf", "--ff", "--nf", "--lf --lfnf=none"])
def test_what_is_remembered_selects_the_same(project: HiddenHosts, option: str) -> None:
    ran(project, "-n2", *WITHOUT, "tests/unit/test_diffs.py", "tests/flat", "-k", "not sets")
    found = same(project, *option.split(), "tests/unit/test_diffs.py", "tests/flat")
    assert any("test_dict" in name for name in found)
    assert any("test_flat" in name for name in found) == ("--lf" not in option)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "says"), [("-x", "stopping after 1 fail"), ("--maxfail=2", "stopping after 2 fail")]
)
def test_a_run_stops_at_a_failure(project: HiddenHosts, option: str, says: str) -> None:
    here, there = (ran(project, where, option, "tests/unit/test_diffs.py") for where in ("-n2", "--vast-hosts=2"))
    assert here.code == there.code == pytest.ExitCode.INTERRUPTED
    assert says in here.output
    assert says in there.output


@pytest.mark.slow
def test_a_subdirectory_and_options_of_the_environment(project: HiddenHosts) -> None:
    root = project.project
    found = same(
        project,
        *("unit", f"{root}/tests/flat", "package/sub"),
        cwd="tests",
        PYTEST_ADDOPTS=f"--deselect=tests/unit/test_diffs.py::test_dict --ignore={root}/tests/unit/test_output.py",
    )
    assert any("test_flat" in name for name in found)
    assert not [name for name in found if "test_output" in name or "test_dict" in name]
