"""Hosts that are lost, connections that break, workers that crash, and runs that are interrupted."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.embed import LocalMarket
from tests.support.hidden import HiddenHosts
from tests.support.hidden import hidden_hosts as hidden_hosts
from tests.support.limits import conftest_with

QUICK_TO_BELIEVE = conftest_with(look_most_s=0.2)
"""A conftest file: a second look at an instance that seems to be lost follows at once."""

ONCE_BOTH_ARE_THERE = """
import pytest
from xdist.scheduler import WorkStealingScheduling

class OnceBothAreThere(WorkStealingScheduling):
    @property
    def collection_is_completed(self):
        return self.collection is not None or len(self.node2collection) == 2

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return OnceBothAreThere(config, log)
"""
"""The same: no test begins before two workers have collected. One that is there early would run all of them."""

STAYS = """
import time, pytest

@pytest.mark.parametrize("number", range(8))
def test_it(number, pytestconfig, seen=[]):
    name = pytestconfig.workerinput["vastgpu_host"]["name"]
    if seen and "machine 100" in name:
        time.sleep(100)
    seen.append(number)
"""
"""On one of the machines the first test passes, and the second one stays."""

ENDS = """
import os, signal, sys, time
from pathlib import Path
import pytest

def test_crashes():
    os._exit(3)

def test_cuts_the_connection_once():
    flag = Path.home() / "cut"
    if not flag.exists():
        flag.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(100)

@pytest.mark.parametrize("number", range(4))
def test_passes(number):
    pass
"""

HANGS = """
import signal, time
import pytest

def test_first():
    pass

@pytest.mark.parametrize("number", range(4))
def test_hangs(number):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    while True:
        try:
            time.sleep(100)
        except BaseException:
            pass
"""

MANY = """
import time, pytest

@pytest.mark.parametrize("number", range(24))
def test_it(number):
    time.sleep(0.3)
"""
UNFIT = """
import os, pytest
if os.environ.get("PYTEST_XDIST_WORKER") and os.environ["PYTEST_HOW"] == "import":
    raise ImportError("libcuda.so.1: no such file")

def pytest_configure(config):
    if hasattr(config, "workerinput") and os.environ["PYTEST_HOW"] == "configure":
        raise RuntimeError("broken plugin")

def pytest_collection_modifyitems(config):
    if hasattr(config, "workerinput") and os.environ["PYTEST_HOW"] == "collect":
        raise pytest.UsageError("say --gpu")
"""
FAULTS = ("instance_vanishes", "host_lost", "container_exits", "stops_by_itself", "frozen")


class Started:
    """A run of its own session that is under way."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.output = ""

    def until(self, seen: Callable[[str], object]) -> None:
        """Wait until its output is so."""
        assert self.process.stdout is not None
        while not seen(self.output):
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, self.output
            self.output += data.decode(errors="replace")

    def rest(self) -> int:
        """Wait for its end; its exit code."""
        assert self.process.stdout is not None
        self.output += self.process.stdout.read().decode(errors="replace")
        sys.stdout.write(self.output)  # where the test fails, pytest shows it
        return self.process.wait()

    def outcomes(self) -> dict[str, set[str]]:
        """The outcomes of tests as they were told, by test."""
        found: dict[str, set[str]] = {}
        for outcome, test in re.findall(r"(PASSED|FAILED|ERROR) \S+::(\S+)", self.output.partition("short test")[0]):
            found.setdefault(test, set()).add(outcome)
        return found


Begin = Callable[..., Started]


def running(market: LocalMarket) -> list[int]:
    """The ids of the instances that run."""
    return [each["id"] for each in market.status()["alive"] if each["actual_status"] == "running"]


@pytest.fixture
def begin(hidden_hosts: HiddenHosts) -> Iterator[Begin]:
    """Starts a run on hidden hosts."""
    runs: list[Started] = []

    def start(suite: str, *arguments: str, conftest: str = "") -> Started:
        hidden_hosts.write({"test_it.py": suite, "conftest.py": conftest})
        process = subprocess.Popen(
            hidden_hosts.command("-v", "--vast-strictness=aggressive", *arguments),
            cwd=hidden_hosts.project,
            env=hidden_hosts.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        runs.append(Started(process))
        return runs[-1]

    yield start
    for run in runs:
        run.process.kill()
        run.process.wait()
        if run.process.stdout is not None:
            run.process.stdout.close()


@pytest.mark.slow
def test_a_host_that_is_lost_takes_no_test_with_it(begin: Begin, hidden_hosts: HiddenHosts) -> None:
    market = hidden_hosts.rent_out({"count": 3, "machine_id": 100})
    run = begin(STAYS, "--vast-hosts=2", conftest=QUICK_TO_BELIEVE + ONCE_BOTH_ARE_THERE)
    run.until(lambda output: {"gw0", "gw1"} <= set(re.findall(r"\[(gw\d)\].*PASSED", output)))
    (instance,) = [each["id"] for each in market.status()["alive"] if each["machine_id"] == 100]
    market.strike(instance, "instance_vanishes", after_s=0.0)
    assert run.rest() == 0
    assert run.outcomes() == {f"test_it[{number}]": {"PASSED"} for number in range(8)}
    (again,) = re.findall(
        r"vastgpu: gw\d: (host \d) was lost \(runtime_lost: instance_lost\); (\S+) runs once more", run.output
    )
    assert f"vastgpu: 1 test ran twice (runtime_lost: instance_lost): {again[1]}" in run.output


@pytest.mark.slow
def test_a_crash_is_the_tests_own_and_a_broken_connection_is_not(begin: Begin) -> None:
    run = begin(ENDS, "--vast-hosts=1", "--vast-workers-per-host=2", "--vast-gpus=0")
    assert run.rest() == 1
    names = ["test_cuts_the_connection_once", *(f"test_passes[{number}]" for number in range(4))]
    assert run.outcomes() == {"test_crashes": {"FAILED"}, **{name: {"PASSED"} for name in names}}
    assert re.search(r"the connection to host 1 was lost \(the connection broke, the host lives\)", run.output)
    assert re.search(r"worker 'gw\d' crashed while running 'test_it.py::test_crashes'", run.output)
    assert "Traceback" not in run.output


@pytest.mark.slow
def test_ctrl_c_ends_workers_that_hang(begin: Begin) -> None:
    run = begin(HANGS, "--vast-hosts=1", "--vast-workers-per-host=2", "--vast-gpus=0")
    run.until(lambda output: "PASSED" in output)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.rest() == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in run.output


@pytest.mark.slow
def test_where_no_host_is_to_be_had_the_run_ends_with_the_reason(begin: Begin) -> None:
    run = begin("def test_it(): pass", "--vast-hosts=2", "--vast-gpu-name=RTX 5090")
    assert run.rest() == pytest.ExitCode.INTERRUPTED
    assert "vastgpu: no test could run: no offers" in run.output
    assert "Traceback" not in run.output


@pytest.mark.slow
def test_an_internal_error_of_a_worker_ends_as_at_home(begin: Begin) -> None:
    fails = "def pytest_runtest_protocol(item):\n    if item.name == 'test_it[3]': raise ValueError('boom')\n"
    run = begin(MANY, "--vast-hosts=1", "--vast-gpus=0", conftest=fails)
    assert run.rest() == pytest.ExitCode.INTERNAL_ERROR
    assert len(run.outcomes()) == 23
    assert "worker 'gw0' has had the internal error above: its test has no result" in run.output


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_losses_at_random_moments_fail_no_test(seed: int, begin: Begin, hidden_hosts: HiddenHosts) -> None:
    dice = random.Random(seed)
    market = hidden_hosts.rent_out({"count": 8})
    workers = dice.choice([1, 2])
    dist = dice.choice(["worksteal", "load", "loadscope"])
    options = [f"--vast-workers-per-host={workers}", f"--dist={dist}", "--junitxml=junit.xml"]
    run = begin(MANY, "--vast-hosts=2", "--vast-gpus=0", *options, conftest=QUICK_TO_BELIEVE)
    for passed in sorted(dice.sample(range(20), 2)):
        run.until(lambda output, passed=passed: output.count("PASSED") > passed)  # type: ignore[misc] # mypy#7964
        if there := running(market):
            struck = dice.choice(there)
            try:
                market.strike(struck, dice.choice(FAULTS), after_s=0.0)
            except LocalMarketError:
                if struck in running(market):  # else the run has given it back meanwhile
                    raise
    code = run.rest()
    cases = ET.parse(hidden_hosts.project / "junit.xml").getroot().findall(".//testcase")  # noqa: S314 - our own
    assert sorted(str(case.get("name")) for case in cases) == sorted(f"test_it[{number}]" for number in range(24))
    assert not [case for case in cases if case.find("failure") is not None]
    assert code == (1 if any(case.find("error") is not None for case in cases) else 0)
    assert "Traceback" not in run.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("import", "ImportError: libcuda.so.1: no such file (from "),
        ("configure", "RuntimeError: broken plugin"),
        ("collect", "say --gpu"),
    ],
)
def test_where_no_worker_can_run_a_test_it_is_a_line_and_one_traceback_at_most(
    how: str, said: str, hidden_hosts: HiddenHosts
) -> None:
    hidden_hosts.write({"conftest.py": UNFIT, "test_it.py": "def test_it():\n    pass\n"})
    ran = hidden_hosts.run(hosts=2, PYTEST_HOW=how)
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert len([line for line in ran.lines if f"can run no test: {said}" in line]) == 2
    assert ran.output.count("Traceback") == (how != "collect")
    assert "INTERNALERROR" not in ran.output
    (last,) = [line for line in ran.lines if "no test could run: " in line]
    assert said in last
