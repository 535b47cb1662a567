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


def at_home(
    project: HiddenHosts, *arguments: str, cwd: str = ".", **variables: str
) -> subprocess.CompletedProcess[str]:
    """The same run in workers of this machine."""
    done = subprocess.run(
        project.command("-n2", *arguments),
        cwd=project.project / cwd,
        env=project.environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    sys.stdout.write(done.stdout + done.stderr)
    return done


def neutral(text: str) -> str:
    """A text without what must differ: addresses, times, and where the project and a worker's files are."""
    text = re.sub(r"(/[^\s'\":]+)?/(project|tmp|pytest-\d+)(?=/|\b)", "<place>", text)
    return re.sub(r"0x[0-9a-f]+|popen-gw\d+|\bgw\d+\b|\d\.\d\ds", "<one>", text)


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
    _, _, last = output.rpartition("short test summary info")
    return sorted(neutral(line) for line in last.splitlines()[1:-1])


def test_equal(project: HiddenHosts) -> None:
    variables = {"PYTHONPATH": str(project.project / "src")}
    home = at_home(project, *WITHOUT, "--junitxml=home.xml", **variables)
    hosts = project.run(*WITHOUT, "--junitxml=hosts.xml", hosts=2, **variables)
    there, here = (cases(project.project / f"{name}.xml") for name in ("hosts", "home"))
    differ = {name for name in {*there, *here} if there.get(name) != here.get(name)}
    assert {name: there.get(name) for name in differ} == {name: here.get(name) for name in differ}
    assert summary(hosts.output) == summary(home.stdout)
    assert hosts.code == home.returncode
