"""Instances that stay warm between runs, on the books of a market that outlives them all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.cli.main import main
from pytest_vastgpu.client import warm
from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.behaviour.conftest import fleet
from tests.support.looks import alive
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.runs import guards

ONE = f"""{WORKLOAD}
def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
"""
LONG = f"""{WORKLOAD}
import time
def test_it(vast_instance):
    print("has it", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def market(rent_from: RentFrom, pytester: pytest.Pytester) -> Iterator[LocalMarket]:
    """A market with two machines. What is warm on it ends with the test."""
    pytester.makepyfile(test_one=ONE)
    yield rent_from(fleet())
    for known in warm.all_warm():
        until(partial(_stopped, known), bool)


def _stopped(known: warm.WarmSupervisor) -> bool:
    try:
        warm.stop(known)
    except warm.NotJoined:
        return not is_running(known.pid)
    return True


@pytest.fixture
def run(start: Start, market: LocalMarket) -> Callable[..., Any]:
    """Runs pytest to its end, in a process of its own; its output."""

    def run(*arguments: str, code: int = 0) -> str:
        made = start(AGGRESSIVE, *arguments)
        assert made.rest() == code
        return made.output

    return run


def costs(home: Path, number: int = -1) -> dict[str, Any]:
    """What the newest run has cost, or an earlier one."""
    files = sorted(home.glob(".local/state/pytest-vastgpu/runs/*/cost.json"), key=lambda path: path.stat().st_ctime)
    found: dict[str, Any] = json.loads(files[number].read_text())
    return found


@pytest.mark.slow
def test_a_plan_says_what_is_warm_and_touches_nothing(run: Callable[..., str], market: LocalMarket) -> None:
    run("--vast-reuse=1h")
    (instance,) = alive(market)
    assert f"instance {instance} is warm, and is used where it still serves" in run("--vast-reuse=1h", "--vast-plan")
    assert "is warm" not in run("--vast-plan")
    assert alive(market) == {instance}


def test_the_next_run_gets_the_instance_that_the_first_one_has_warmed_up(
    run: Callable[..., str], market: LocalMarket, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("--vast-reuse=1h")
    (instance,) = alive(market)
    assert f"WARM: instance {instance} (command " in first
    assert main(["ls"]) == 0
    assert "warm until " in capsys.readouterr().out
    second = run("--vast-reuse=1h")
    assert alive(market) == {instance}
    assert "renting machine" not in second
    (row,) = costs(home)["instances"]
    assert row["id"] == instance
    assert row["outcome"].startswith("reused, ")
    assert row["age_s"] > row["reused_at_s"] > 0
    assert f"{BAD} " in second.partition("USD/h  boot")[2], "it is in the table"
    (known,) = warm.all_warm()
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert [(each["state"], each["instances"], each["tests"]) for each in told] == [("over", 1, 1), ("warm 1", 1, 1)]
    assert main(["down"]) == 0
    assert capsys.readouterr().out.startswith(f"what was warm for {known.project} since ")
    assert alive(market) == set()
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "nothing is kept warm\n"
    until(warm.all_warm, lambda found: found == [])
    assert not known.file.exists()
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD], "one rent for both"
    files = home.glob(".local/state/pytest-vastgpu/runs/*/cost.json")
    both = [json.loads(path.read_text()) for path in files]
    assert sum(cost["total_usd"] for cost in both) >= market.status()["spent_usd"] > 0
    assert all(cost["instances"][0]["idle_usd"] > 0 for cost in both), "each has paid for a while without a run"


@pytest.mark.slow
def test_without_the_option_nothing_is_kept_and_nothing_is_reused(run: Callable[..., str], market: LocalMarket) -> None:
    run("--vast-reuse=1h")
    (instance,) = alive(market)
    other = run()
    assert "renting machine" in other
    assert "; this run does not use it (--vast-reuse does, `vastgpu down` ends it)" in other
    assert alive(market) == {instance}


@pytest.mark.slow
def test_an_instance_that_no_run_uses_is_given_back_and_the_supervisor_ends(
    run: Callable[..., str], market: LocalMarket
) -> None:
    run("--vast-reuse=2s")
    until(lambda: alive(market), lambda left: left == set())
    until(warm.all_warm, lambda found: found == [])


@pytest.mark.slow
def test_two_runs_at_once_share_an_instance(start: Start, market: LocalMarket, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_long=f"""{WORKLOAD}
import pathlib, time
def test_it(vast_instance):
    print("has", vast_instance.id, flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
"""
    )
    one = start(AGGRESSIVE, "--vast-reuse=1h", "-s", "test_long.py")
    number = one.until("has ").split()[-1]
    two = start(AGGRESSIVE, "--vast-reuse=1h", "-s", "test_long.py")
    assert two.until("has ").split()[-1] == number
    assert "renting machine" not in two.output
    pytester.path.joinpath("go").touch()
    assert (one.rest(), two.rest()) == (0, 0)
    assert alive(market) == {int(number)}


@pytest.mark.slow
def test_a_run_with_other_settings_is_left_to_itself(run: Callable[..., str], market: LocalMarket) -> None:
    run("--vast-reuse=1h")
    (instance,) = alive(market)
    other = run("-q", "--vast-reuse=1h", "--vast-max-price=0.9")
    assert "are left alone: it has --vast-max-price=1 USD/h, and this run 0.9 USD/h" in other
    assert "WARM" not in other
    assert alive(market) == {instance}


@pytest.mark.slow
def test_interrupted_it_stays_warm(start: Start, market: LocalMarket, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=LONG)
    run = start(AGGRESSIVE, "--vast-reuse=1h", "-s")
    run.until("has it")
    run.process.send_signal(signal.SIGINT)
    assert run.rest() == 2
    assert len(alive(market)) == 1
    assert "WARM: " in run.output


@pytest.mark.slow
def test_killed_it_stays_warm_for_its_time_only(start: Start, market: LocalMarket, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=LONG)
    run = start(AGGRESSIVE, "--vast-reuse=3s", "-s")
    run.until("has it")
    killed_at = market.status()["now"]
    run.process.kill()
    run.process.wait()
    until(lambda: alive(market), lambda left: left == set())
    (ended,) = market.status()["ended"]
    assert ended["ended_at"] - killed_at > 3


@pytest.mark.slow
def test_killed_it_is_over_also_where_a_fork_holds_its_connection(
    start: Start, run: Callable[..., str], market: LocalMarket, pytester: pytest.Pytester
) -> None:
    run("--vast-reuse=1h")
    pytester.makepyfile(
        test_one=f"""{WORKLOAD}
import ctypes, os, pathlib, time
def test_it(vast_instance):
    if not ctypes.PyDLL(None).fork():  # Python does not learn of it, and closes nothing in it
        while not pathlib.Path("go").exists():
            time.sleep(0.05)
        os._exit(0)
    print("has it", flush=True)
    time.sleep(60)
"""
    )
    second = start(AGGRESSIVE, "--vast-reuse=1h", "-s")
    second.until("has it")
    (known,) = warm.all_warm()
    assert warm.instances(known) == []
    second.process.kill()
    second.process.wait()
    try:
        until(lambda: warm.instances(known), bool)
    finally:
        pytester.path.joinpath("go").touch()


@pytest.mark.slow
def test_a_run_goes_on_without_its_login_session(market: LocalMarket, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_one=f"""{WORKLOAD}
import os, pathlib, time
def test_it(vast_instance):
    pathlib.Path("has it").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    time.sleep(2)  # the supervisor looks once a second
    assert vast_instance.run("true").ok
    pathlib.Path("passed").touch()
"""
    )
    line = f"nohup {sys.executable} -m pytest -p no:randomly {AGGRESSIVE} --vast-reuse=1h > out 2>&1 & read answer"
    with subprocess.Popen(
        ["sh", "-c", line], cwd=pytester.path, stdin=subprocess.PIPE, start_new_session=True
    ) as shell:
        until(pytester.path.joinpath("has it").exists, bool)
        shell.communicate(b"\n")
    pytester.path.joinpath("go").touch()
    until(pytester.path.joinpath("passed").exists, bool)
    until(lambda: alive(market), lambda left: left == set())


@pytest.mark.slow
def test_the_guard_destroys_what_a_warm_supervisor_leaves_that_is_killed(
    run: Callable[..., str], market: LocalMarket
) -> None:
    run("--vast-reuse=1h")
    assert len(alive(market)) == 1
    (known,) = warm.all_warm()
    os.kill(known.pid, signal.SIGKILL)
    until(lambda: alive(market), lambda left: left == set())
    assert "renting machine" in run("--vast-reuse=1h"), "the next run does not mind the file"


@pytest.mark.slow
@pytest.mark.slow
def test_a_run_that_joins_finds_a_guard(run: Callable[..., str], market: LocalMarket) -> None:
    run("--vast-reuse=1h")
    (guard,) = guards()
    os.kill(guard, signal.SIGKILL)
    assert "renting machine" not in run("--vast-reuse=1h")
    (another,) = guards()
    assert another != guard
    assert is_running(another)
    (known,) = warm.all_warm()
    os.kill(known.pid, signal.SIGKILL)
    until(lambda: alive(market), lambda left: left == set())


@pytest.mark.slow
def test_what_no_later_run_can_find_is_given_back(run: Callable[..., str], market: LocalMarket) -> None:
    run("--vast-reuse=1h")
    assert len(alive(market)) == 1
    (known,) = warm.all_warm()
    known.file.unlink()  # as another run does with that of a supervisor that does not answer
    until(lambda: alive(market), lambda left: left == set())
    until(lambda: is_running(known.pid), lambda runs: not runs)


@pytest.mark.slow
def test_the_end_of_the_login_session_ends_what_is_warm(market: LocalMarket, pytester: pytest.Pytester) -> None:
    line = f"{sys.executable} -m pytest -p no:randomly {AGGRESSIVE} --vast-reuse=1h; read answer"
    shell = subprocess.Popen(
        ["sh", "-c", line], cwd=pytester.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert shell.stdout is not None
    assert any(b"WARM: " in row for row in shell.stdout)
    assert len(alive(market)) == 1
    shell.communicate(b"\n")
    until(lambda: alive(market), lambda left: left == set())


ADAPTER = """
import pytest
import os
from pytest_vastgpu import Launch, Probe, Progress, Ready, Warming

class Mine:
    name = "mine"
    default_image = "an/image"
    warmup_s = 60.0

    def launch(self, workload, api_key):
        return Launch("exec python3 server.py", {})

    def headers(self, workload, api_key):
        return {}

    def probes(self, workload):
        return (Probe("get", "python3 -c \'import urllib.request as r; r.urlopen(\\"http://127.0.0.1:8000\\")\'"),)

    def assess(self, workload, seen):
        open("assessed_by", "a").write(f"{os.getpid()} ")
        return Ready() if seen.probes["get"].ok else Warming(Progress("starting"))

def pytest_vastgpu_adapters():
    return [Mine()]

def pytest_vastgpu_outcome(attempt, workload):
    open("outcomes", "a").write("ready " if attempt.verdict is None else "failed ")
"""


@pytest.mark.slow
def test_adapters_and_hooks_of_conftest_files_are_those_of_the_run_that_goes_on(
    run: Callable[..., str], market: LocalMarket, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(ADAPTER)
    pytester.makepyfile(
        test_one="""
import httpx, pytest
from pytest_vastgpu import Workload

@pytest.fixture
def vast_workload():
    return Workload("mine", files=(("server.py", "server.py"),), gpus=1)

def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
"""
    )
    run("--vast-reuse=1h")
    (instance,) = alive(market)
    assert "renting machine" not in run("--vast-reuse=1h")
    assert alive(market) == {instance}
    assert pytester.path.joinpath("outcomes").read_text() == "ready "
    assert len(set(pytester.path.joinpath("assessed_by").read_text().split())) == 2, "each run by its own adapter"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [("-n2",), ()], ids=["workers join", "workers leave"])
def test_with_workers_and_without_it_is_the_same(
    run: Callable[..., str], market: LocalMarket, workers: tuple[str, ...]
) -> None:
    first = () if workers else ("-n2",)
    run("--vast-reuse=1h", *first)
    (instance,) = alive(market)
    assert "renting machine" not in run("--vast-reuse=1h", *workers)
    assert alive(market) == {instance}


@pytest.mark.slow
def test_a_failed_test_leaves_it_warm(run: Callable[..., str], market: LocalMarket, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=f"{WORKLOAD}\ndef test_it(vast_instance):\n    assert vast_instance.id == 0\n")
    run("--vast-reuse=1h", code=1)
    (instance,) = alive(market)
    assert "renting machine" not in run("--vast-reuse=1h", code=1)
    assert alive(market) == {instance}


@pytest.mark.slow
def test_two_that_start_at_once_rent_once(start: Start, market: LocalMarket) -> None:
    runs = [start(AGGRESSIVE, "--vast-reuse=1h") for _ in range(3)]
    assert [each.rest() for each in runs] == [0, 0, 0]
    assert len(alive(market)) == 1
    assert market.status()["ended"] == []


def kill_all(known: warm.WarmSupervisor) -> None:
    """As when the machine goes off: no process of the run is left."""
    record = read_ledger(runs_dir() / known.run / FILE)
    os.kill(record.guard, signal.SIGKILL)
    os.kill(known.pid, signal.SIGKILL)


@pytest.mark.slow
def test_with_the_machine_off_the_instance_ends_itself(run: Callable[..., str], market: LocalMarket) -> None:
    run("--vast-reuse=1h", "--vast-lease=10")
    (known,) = warm.all_warm()
    (instance,) = market.status()["alive"]
    until(lambda: market.status()["now"] - instance["created_at"], lambda age_s: age_s > 14)
    assert len(alive(market)) == 1, "its lease is renewed while it waits"
    kill_all(known)
    until(lambda: alive(market), lambda left: left == set())


@pytest.mark.slow
def test_after_a_reboot_the_next_run_sweeps(run: Callable[..., str], market: LocalMarket) -> None:
    run("--vast-reuse=1h", "--vast-lease=3600")
    (instance,) = alive(market)
    (known,) = warm.all_warm()
    kill_all(known)
    run()
    assert instance not in alive(market)


@pytest.mark.slow
def test_after_an_edit_only_the_server_is_started_again(
    run: Callable[..., str], market: LocalMarket, pytester: pytest.Pytester
) -> None:
    run("--vast-reuse=1h")
    (instance,) = alive(market)
    changed = ONE.replace("exec python3 server.py", "exec python3 -u server.py")
    pytester.makepyfile(test_one=changed)
    assert "in place of command 'exec python3 server.py'" in run("--vast-reuse=1h")
    server = pytester.path / "server.py"
    server.write_text(server.read_text().replace("here I am", "another answer"))
    pytester.makepyfile(test_one=changed.replace("here I am", "another answer"))
    assert "because server.py has changed here" in run("--vast-reuse=1h")
    assert "used again" in run("--vast-reuse=1h")
    assert alive(market) == {instance}
    assert market.status()["ended"] == []


@pytest.mark.slow
def test_a_wrong_argument_is_told_at_once_and_costs_no_other_machine(
    run: Callable[..., str], market: LocalMarket, pytester: pytest.Pytester
) -> None:
    run("--vast-reuse=1h")
    pytester.makepyfile(test_one=ONE.replace("exec python3 server.py", "exec python3 server.py --wrong"))
    refuses = "import argparse; argparse.ArgumentParser().parse_args()\n"
    pytester.path.joinpath("server.py").write_text(refuses)
    output = run("--vast-reuse=1h", code=1)
    assert "workload_fatal" in output
    assert sum(rent["machine_id"] == BAD for rent in market.status()["ended"]) == 1
    assert len(market.status()["ended"]) == 1
