"""The environment of the tests on a host, in whole runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hidden import HiddenHosts

INSTALL = """\
echo installing
echo "VERSION = '$1'" > "$(python -c 'import site; print(site.getsitepackages()[0])')/installed.py"
"""
TEST = """\
import sys

def test_it():
    import installed
    assert installed.VERSION == "{version}"
    assert sys.prefix.endswith("/.vastgpu/work/env")
"""


@pytest.fixture
def warm(hidden_hosts: HiddenHosts) -> Iterator[HiddenHosts]:
    """Hosts that stay warm until the test is over."""
    yield hidden_hosts
    subprocess.run(
        [sys.executable, "-m", "pytest_vastgpu", "down"],
        env=hidden_hosts.environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_it_is_made_once_on_a_host_and_again_where_it_has_changed(warm: HiddenHosts) -> None:
    warm.write({"install.sh": INSTALL, "test_it.py": TEST.format(version=1)})
    first = warm.run("--vast-reuse=1h", "--vast-setup=sh install.sh 1")
    assert first.code == 0
    made = "environment: sh install.sh 1 (--vast-setup)"
    assert [line for line in first.lines if line.endswith((made, "setup: installing"))] != []
    warm.write({"test_it.py": TEST.format(version=1) + "\n\ndef test_more():\n    pass\n"})
    second = warm.run("--vast-reuse=1h", "--vast-setup=sh install.sh 1")
    assert (second.code, "2 passed" in second.lines[-1]) == (0, True)
    assert "renting machine" not in second.output
    assert "environment:" not in second.output
    warm.write({"test_it.py": TEST.format(version=2)})
    third = warm.run("--vast-reuse=1h", "--vast-setup=sh install.sh 2")
    assert third.code == 0
    assert "renting machine" not in third.output
    assert "environment: sh install.sh 2 (--vast-setup)" in third.output


@pytest.mark.slow
def test_an_option_that_pytest_there_would_not_know_ends_the_run_before_any_test(
    hidden_hosts: HiddenHosts, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / "pytest_own-1.dist-info").mkdir(parents=True)
    (own / "pytest_own-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-own\nVersion: 1\n")
    (own / "pytest_own-1.dist-info" / "entry_points.txt").write_text("[pytest11]\nown = own\n")
    (own / "own.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--own')\n")
    hidden_hosts.write({"test_it.py": "def test_it():\n    pass\n"})
    ran = hidden_hosts.run("--own=1", hosts=2, PYTHONPATH=str(own))
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in ran.lines if line.startswith("ERROR: ")]
    assert (
        "pytest there would not know --own=1, since pytest-own is missing there: add it to what the tests need" in line
    )
    assert len([line for line in ran.lines if "pytest-own 1 is active here and missing there" in line]) == 1
    assert "passed" not in ran.output
    gone = hidden_hosts.run(hosts=1, PYTHONPATH=str(own))
    assert (gone.code, "1 passed" in gone.lines[-1]) == (0, True)  # without the option, it is only said


@pytest.mark.slow
def test_a_setup_that_fails_is_the_projects_fault_and_shows_the_line_that_says_why(hidden_hosts: HiddenHosts) -> None:
    hidden_hosts.write({"test_it.py": "def test_it():\n    pass\n"})
    setup = "echo one; echo 'error: no such thing'; echo '[notice] two'; exit 3"
    ran = hidden_hosts.run(f"--vast-setup={setup}", hosts=2)
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert "workload_fatal: setup_failed" in ran.output
    assert "the setup command ended with exit code 3: error: no such thing" in ran.output
    assert ran.output.count("attempt ") <= 2  # no further machine is tried
