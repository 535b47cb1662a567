"""What tests write on a host is at home after the run, however it ends."""

from __future__ import annotations

import os
import re
import signal

import pytest

from pytest_vastgpu.client import warm
from pytest_vastgpu.core.timeouts import DEFAULTS
from tests.behaviour.on_host.test_losses import ONCE_BOTH_ARE_THERE
from tests.behaviour.on_host.test_losses import QUICK_TO_BELIEVE
from tests.support.hidden import HiddenHosts
from tests.support.limits import conftest_with
from tests.support.runs import PytestRun

WRITES = """
import os, pathlib, time

def test_1_writes(tmp_path):
    (tmp_path / "of_one_that_passes").touch()
    pathlib.Path("reports/deep").mkdir(parents=True)
    pathlib.Path("reports/deep/one.json").write_text(os.environ["HOME"])
"""
FAILS = """
def test_2_fails(tmp_path):
    (tmp_path / "seen.txt").write_text("there")
    assert not "seen"

def test_3_is_not_run():
    pathlib.Path("reports/three.json").touch()
"""
HANGS = """
def test_2_is_quick(): pass  # its result ends the line of the one before

def test_3_hangs():
    time.sleep(1000)
"""


HAS_TIME = conftest_with(fetch_interrupted_s=DEFAULTS.fetch_most_s)
"""A conftest file: what is fetched after Ctrl-C may take as long as without."""


def fetched(hosts: HiddenHosts) -> dict[str, str]:
    folder = hosts.project / "vast-fetched"
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    found.pop(".gitignore", None)
    return found


@pytest.mark.slow
def test_reports_and_the_tmp_path_of_a_failed_test_are_at_home_after_minus_x(hidden_hosts: HiddenHosts) -> None:
    hidden_hosts.write({"test_it.py": WRITES + FAILS, "reports/home.json": "mine", "out/one.json": "mine"})
    ran = hidden_hosts.run("-x", "--vast-fetch=reports", "--vast-fetch=out/*,prof/**", "--vast-fetch-tmp")
    assert ran.code
    assert "1 failed, 1 passed" in ran.lines[-1]
    found = fetched(hidden_hosts)
    assert found.pop("host-1/reports/deep/one.json") != os.environ["HOME"]
    assert found == {"host-1/tmp_path/test_it.py_test_2_fails/seen.txt": "there"}
    assert (hidden_hosts.project / "reports" / "home.json").read_text() == "mine"
    told = [line for line in ran.lines if re.match(r"vastgpu:? (host 1|nothing).* fetch", line)]
    assert told == [
        "vastgpu host 1: fetching reports, out/*, prof/**, tmp_path of 1 failed test",
        told[1],
        "vastgpu: nothing fetched for 'out/*': 1 file there, written by no test of this run",
        "vastgpu: nothing fetched for 'prof/**': no such file on any host",
    ]
    assert told[1].startswith("vastgpu: host 1: fetched 2 files (")
    assert told[1].endswith(" bytes) into vast-fetched/host-1")


@pytest.mark.slow
def test_ctrl_c_brings_home_what_was_written_until_then(
    hidden_hosts: HiddenHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden_hosts.write({"test_it.py": WRITES + HANGS, "conftest.py": HAS_TIME})
    for name, value in hidden_hosts.environment().items():
        monkeypatch.setenv(name, value)
    run = PytestRun(hidden_hosts.project, "-v", "--vast-hosts=1", "--vast-gpus=0", "--vast-fetch=reports/**")
    try:
        run.until("PASSED")
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.rest() == pytest.ExitCode.INTERRUPTED
    finally:
        run.end()
    assert fetched(hidden_hosts).keys() == {"host-1/reports/deep/one.json"}


@pytest.mark.slow
def test_a_warm_host_sends_what_this_run_has_written_alone(hidden_hosts: HiddenHosts) -> None:
    try:
        hidden_hosts.write({"test_it.py": WRITES})
        assert hidden_hosts.run("--vast-fetch=reports/**", VAST_REUSE="10m", CI="").code == 0
        assert fetched(hidden_hosts).keys() == {"host-1/reports/deep/one.json"}
        hidden_hosts.write({"test_it.py": WRITES.replace("deep", "other")})
        again = hidden_hosts.run("--vast-fetch=reports/**", VAST_REUSE="10m", CI="")
        assert again.code == 0
        assert "created instance" not in again.output
        assert fetched(hidden_hosts).keys() == {"host-1/reports/other/one.json"}
    finally:
        for known in warm.all_warm():
            warm.stop(known)


STAYS_ON_ONE = """
import os, pathlib, time, pytest

@pytest.mark.parametrize("number", range(8))
def test_it(number, pytestconfig, seen=[]):
    if seen and "machine 100" in pytestconfig.workerinput["vastgpu_host"]["name"]:
        time.sleep(1000)
    seen.append(number)
    pathlib.Path(f"{number}.json").touch()
"""


@pytest.mark.slow
def test_what_was_written_on_a_lost_host_is_told_and_the_rest_is_at_home(
    hidden_hosts: HiddenHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = hidden_hosts.rent_out({"count": 3, "machine_id": 100})
    hidden_hosts.write({"test_it.py": STAYS_ON_ONE, "conftest.py": QUICK_TO_BELIEVE + ONCE_BOTH_ARE_THERE})
    for name, value in hidden_hosts.environment().items():
        monkeypatch.setenv(name, value)
    run = PytestRun(hidden_hosts.project, "-v", "--vast-hosts=2", "--vast-strictness=aggressive", "--vast-fetch=*.json")
    try:
        while len(set(re.findall(r"\[(gw\d)\].*PASSED", run.output))) < 2:
            run.until("PASSED")
        (instance,) = [each["id"] for each in market.status()["alive"] if each["machine_id"] == 100]
        market.strike(instance, "instance_vanishes", after_s=0.0)
        assert run.rest() == 0
    finally:
        run.end()
    assert (
        len(re.findall(r"^vastgpu: host \d was lost, and with it .*: nothing fetched$", run.output, re.MULTILINE)) == 1
    )
    numbers = {name.rpartition("/")[2] for name in fetched(hidden_hosts)}
    assert 0 < len(numbers) < 8
