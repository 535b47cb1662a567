"""How often is rented, for whom, and when it goes back: counted by the market itself."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import serving_once
from tests.support.looks import alive
from tests.support.looks import until
from tests.support.runs import PytestRun

FLEET = {"machines": [{"count": 6}]}
SLOW_BOOT = {"machines": [{"count": 6, "stages": {"loading_s": 2}}]}

SUITE = """
import httpx, os, pytest, random, time
from pathlib import Path
from pytest_vastgpu import command

def workload(name, start="exec python3 server.py"):
    return command(start, files={"server.py": "server.py"}, gpus=1, image=f"{name}:1")

ONE, TWO = workload("one"), workload("two")

@pytest.fixture
def vast_workload():
    return ONE

def market():
    return httpx.get(os.environ["VAST_URL"] + "/_market/status",
                     headers={"Authorization": "Bearer " + os.environ["VAST_API_KEY"]}, timeout=60).json()

def ask(instance):
    assert httpx.get(instance.endpoint, timeout=60).text == "here I am"
"""

TWO_WORKLOADS = """
@pytest.mark.parametrize("n", range(8))
def test_one(vast_instance, n):
    time.sleep(random.Random(n).random() / 10)
    ask(vast_instance)

@pytest.mark.vast(TWO)
@pytest.mark.parametrize("n", range(4))
def test_two(vast_instance, n):
    ask(vast_instance)

def test_none(): pass
"""


def rents(market: LocalMarket) -> dict[str, int]:
    """How many instances were rented for each workload; nothing is alive any more."""
    status = market.status()
    assert status["alive"] == []
    assert all(count == 1 for count in status["rents_per_label"].values())
    return dict(Counter(row["image"].removesuffix(":1") for row in status["ended"]))


def most_at_once(market: LocalMarket) -> int:
    ended = market.status()["ended"]
    changes = sorted([(row["created_at"], 1) for row in ended] + [(row["ended_at"], -1) for row in ended])
    counts = [0]
    for _, change in changes:
        counts.append(counts[-1] + change)
    return max(counts)


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("workers", [slow(0), slow(1), 2, slow(4), slow(8), slow(16)])
def test_each_workload_is_rented_once_for_any_number_of_workers(
    pytester: pytest.Pytester, rent_from: RentFrom, workers: int
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(SUITE + TWO_WORKLOADS)
    pytester.runpytest_subprocess(f"-n{workers}").assert_outcomes(passed=13)
    assert rents(market) == {"one": 1, "two": 1}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["load", "loadscope", "loadfile", "loadgroup", "worksteal"])
def test_how_tests_are_distributed_makes_no_difference(
    pytester: pytest.Pytester, rent_from: RentFrom, mode: str
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(SUITE + TWO_WORKLOADS)
    pytester.makepyfile(test_other=SUITE + TWO_WORKLOADS)
    pytester.runpytest_subprocess("-n3", f"--dist={mode}").assert_outcomes(passed=26)
    assert rents(market) == {"one": 1, "two": 1}


@pytest.mark.slow
def test_where_each_worker_runs_all_tests_they_share_to_the_last(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
def test_it(vast_instance):
    if os.environ["PYTEST_XDIST_WORKER"] == "gw1":
        while not Path("over").exists():
            time.sleep(0.01)
        time.sleep(0.5)
    ask(vast_instance)

def test_over(): Path("over").touch()
"""
    )
    pytester.runpytest_subprocess("-n2", "--dist=each", "-p", "no:randomly").assert_outcomes(passed=4)
    assert rents(market) == {"one": 1}


@pytest.mark.parametrize(
    ("arguments", "passed", "rented"),
    [
        slow(["-k", "two"], 4, {"two": 1}),
        slow(["-n2", "-k", "two"], 4, {"two": 1}),
        slow(["-m", "not vast"], 9, {"one": 1}),
        slow(["-n2", "--deselect=test_it.py::test_one"], 5, {"two": 1}),
        slow(["-k", "none"], 1, {}),
        slow(["-p", "randomly", "-p", "no:cacheprovider"], 13, {"one": 1, "two": 1}),
    ],
)
def test_only_what_is_selected_is_rented(
    pytester: pytest.Pytester, rent_from: RentFrom, arguments: list[str], passed: int, rented: dict[str, int]
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(test_it=SUITE + TWO_WORKLOADS)
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=passed)
    assert rents(market) == rented


def test_what_marks_keep_from_running_is_not_rented(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
@pytest.mark.skip
def test_1(vast_instance): pass

@pytest.mark.skipif(os.sep == "/", reason="not here")
@pytest.mark.vast(TWO)
def test_2(vast_instance): pass

@pytest.mark.skipif("True")
@pytest.mark.vast(workload("three"))
def test_3(vast_instance): pass

@pytest.mark.xfail(run=False)
def test_4(vast_instance): pass
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(skipped=3, xfailed=1)
    assert rents(market) == {}


@pytest.mark.parametrize(
    "option", ["--setup-plan", slow("--fixtures"), slow("--fixtures-per-test"), slow("--collect-only")]
)
@pytest.mark.parametrize("workers", [0, slow(2)])
def test_to_show_something_needs_no_market(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: str, workers: int
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")  # nothing listens on the discard port
    pytester.makepyfile(SUITE.replace('files={"server.py": "server.py"}, ', "") + TWO_WORKLOADS)
    assert pytester.runpytest_subprocess(option, f"-n{workers}").ret == pytest.ExitCode.OK


@pytest.mark.slow
def test_a_suite_that_cannot_be_collected_rents_nothing(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(SUITE + TWO_WORKLOADS)
    pytester.makepyfile(test_broken="import nothing_of_that_name")
    assert pytester.runpytest_subprocess().ret == pytest.ExitCode.INTERRUPTED
    assert rents(market) == {}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["-p", "no:randomly"], ["-p", "no:randomly", "-n2"]])
def test_renting_starts_before_a_test_asks(
    pytester: pytest.Pytester, rent_from: RentFrom, arguments: list[str]
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
def test_1_plain():
    while {row["image"] for row in market()["alive"]} != {"one:1", "two:1"}:
        time.sleep(0.05)
    Path("seen").touch()

def seen():
    while not Path("seen").exists():
        time.sleep(0.05)

def test_2(vast_instance):
    seen()
    ask(vast_instance)

@pytest.mark.vast(TWO)
def test_3(vast_instance):
    seen()
    ask(vast_instance)
"""
    )
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=3)
    assert rents(market) == {"one": 1, "two": 1}


AGES = {"machines": [{"count": 6, "stages": {"loading_s": 300}}]}


@pytest.mark.slow
def test_what_nobody_asks_for_any_more_is_called_off(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(AGES)
    pytester.makepyfile(
        SUITE
        + """
def test_1_plain():
    while not market()["alive"]:
        time.sleep(0.05)
    assert False

def test_2(vast_instance): pass
"""
    )
    pytester.runpytest_subprocess("-p", "no:randomly", "-x").assert_outcomes(failed=1)
    assert rents(market) == {"one": 1}


@pytest.mark.slow
def test_when_the_run_is_over_nobody_waits_for_what_is_on_its_way(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(AGES)
    pytester.makepyfile(
        SUITE
        + """
def test_1(vast_instance): pass

def test_2_plain():
    while not market()["alive"]:
        time.sleep(0.05)
    assert False
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-n2", "--maxfail=1")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*the run is ending*"])
    assert rents(market) == {"one": 1}


@pytest.mark.slow
def test_the_last_failed_ones_rent_what_they_need(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(SUITE + TWO_WORKLOADS + "\n@pytest.mark.vast(TWO)\ndef test_bad(vast_instance): assert 0\n")
    pytester.runpytest_subprocess("-n2").assert_outcomes(passed=13, failed=1)
    pytester.runpytest_subprocess("--lf").assert_outcomes(failed=1, deselected=0)
    assert rents(market) == {"one": 1, "two": 2}


@pytest.mark.parametrize("workers", [slow(0), slow(4)])
def test_a_workload_that_fails_is_not_rented_again(
    pytester: pytest.Pytester, rent_from: RentFrom, workers: int
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
BROKEN = workload("broken", "echo 'server.py: error: unrecognized arguments: --foo'; exit 2")

@pytest.mark.vast(BROKEN)
@pytest.mark.parametrize("n", range(6))
def test_broken(vast_instance, n): pass

@pytest.mark.parametrize("n", range(6))
def test_good(vast_instance, n): ask(vast_instance)
"""
    )
    result = pytester.runpytest_subprocess(f"-n{workers}")
    result.assert_outcomes(errors=6, passed=6)
    # The summary at the end says it once more where pytest runs in a CI.
    errors = str(result.stdout).partition("short test summary info")[0]
    assert errors.count("whose fault: the workload's") == 1
    assert errors.count("not rented again in this run") == 5
    assert rents(market) == {"broken": 1, "one": 1}


STAGES = {"renting": "renting machine", "booting": "booting", "warming": "server launched"}


@pytest.mark.parametrize(("stage", "seed"), [slow(stage, seed) for stage in STAGES for seed in range(1, 4)])
def test_a_worker_that_dies_while_it_waits_changes_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom, stage: str, seed: int
) -> None:
    market = rent_from(SLOW_BOOT)
    pytester.makeconftest(
        "import os\ndef pytest_runtest_logstart(nodeid):\n"
        "  name = os.environ.get('PYTEST_XDIST_WORKER', 'controller')\n"
        "  with open(name, 'w') as file: file.write(str(os.getpid()))\n"
        "  os.replace(name, name + '.pid')\n"
    )
    go = pytester.path / "go"
    pytester.path.joinpath("server.py").write_text(serving_once(go))
    workers = random.Random(seed).randint(2, 4)
    pytester.makepyfile(
        SUITE + TWO_WORKLOADS.replace("@pytest.mark.vast(TWO)", "").replace("def test_none(): pass", "")
    )
    run = PytestRun(pytester.path, f"-n{workers}")
    try:
        run.until("wait for command")
        if stage == "warming":
            run.until(STAGES[stage])
        victim = random.Random(seed).choice(sorted(pytester.path.glob("gw*.pid")))
        os.kill(int(victim.read_text()), signal.SIGKILL)
        go.touch()
        run.rest()
    finally:
        run.end()
    assert "1 failed, 11 passed" in run.output
    assert rents(market) == {"one": 1}, run.output


@pytest.mark.parametrize("workers", [slow(2), slow(4)])
def test_a_worker_that_dies_in_a_test_lets_go_of_what_it_had(
    pytester: pytest.Pytester, rent_from: RentFrom, workers: int
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
import signal

@pytest.mark.vast(TWO)
def test_1_dies(vast_instance, vast_instance_factory):
    vast_instance_factory(workload("own"))
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("n", range(4))
def test_2(vast_instance, n):
    ask(vast_instance)

def test_3_sees_them_go(vast_instance):
    while {row["image"] for row in market()["alive"]} != {"one:1"}:
        time.sleep(0.05)
"""
    )
    result = pytester.runpytest_subprocess(f"-n{workers}", "-p", "no:randomly")
    result.assert_outcomes(passed=5, failed=1)
    assert rents(market) == {"one": 1, "two": 1, "own": 1}


@pytest.mark.slow
def test_runs_side_by_side_rent_their_own(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(SUITE + TWO_WORKLOADS)
    command = [sys.executable, "-m", "pytest", "-n2", "-p", "no:cacheprovider"]
    runs = [
        subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    for run in runs:
        output, _ = run.communicate()
        assert "13 passed" in output
    assert rents(market) == {"one": 2, "two": 2}


INTERLEAVED = """
@pytest.mark.parametrize("n", range(3))
def test_one(vast_instance, n): ask(vast_instance)

@pytest.mark.vast(TWO)
def test_between(vast_instance): ask(vast_instance)

@pytest.mark.parametrize("n", range(3))
def test_one_again(vast_instance, n): ask(vast_instance)
"""


@pytest.mark.parametrize("workers", [slow(0), slow(2), slow(4)])
def test_one_at_a_time_takes_turns(pytester: pytest.Pytester, rent_from: RentFrom, workers: int) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(SUITE + INTERLEAVED)
    result = pytester.runpytest_subprocess("--vast-max-instances=1", f"-n{workers}", "-p", "no:randomly")
    result.assert_outcomes(passed=7)
    found = rents(market)
    assert most_at_once(market) == 1
    assert found["two"] == 1
    assert found["one"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["budget", "machines"])
def test_want_of_money_or_machines_makes_them_take_turns_too(
    pytester: pytest.Pytester, rent_from: RentFrom, what: str
) -> None:
    market = rent_from({"machines": [{"price_usd_h": 0.3, "count": 1 if what == "machines" else 2}]})
    pytester.makepyfile(SUITE + INTERLEAVED)
    more = ["--vast-budget=0.9"] if what == "budget" else []  # two hours of one, not of two
    pytester.runpytest_inprocess("-p", "no:randomly", *more).assert_outcomes(passed=7)
    assert most_at_once(market) == 1
    # Both are begun at once; where the later one gets the only machine, it has to give it back and rents it again.
    assert rents(market) in ({"one": 2, "two": 1}, {"one": 2, "two": 2})


@pytest.mark.slow
def test_busy_workloads_share_the_room_that_is_spare(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
@pytest.mark.parametrize("n", range(12))
def test_it(vast_instance, n):
    while not Path("all").exists() and len(market()["alive"]) < 3:
        time.sleep(0.05)
    Path("all").touch()
    ask(vast_instance)
"""
    )
    pytester.runpytest_subprocess("--vast-max-instances=3", "-n4").assert_outcomes(passed=12)
    assert rents(market) == {"one": 3}
    assert most_at_once(market) == 3


@pytest.mark.slow
def test_a_test_that_wants_more_than_there_may_be_is_told_at_once(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from(FLEET)
    pytester.makepyfile(SUITE + "def test_it(vast_instance, vast_instance_factory): vast_instance_factory(ONE)")
    result = pytester.runpytest_inprocess("--vast-max-instances=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*this test holds the only instance that --vast-max-instances 1 allows at once*"])


@pytest.mark.slow
def test_tests_that_hold_and_wait_for_each_other_come_to_an_end(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
@pytest.mark.parametrize("n", range(2))
def test_it(vast_instance_factory, n):
    vast_instance_factory(ONE)
    Path(str(n)).touch()
    while not Path(str(1 - n)).exists():
        time.sleep(0.05)
    vast_instance_factory(ONE)
"""
    )
    result = pytester.runpytest_subprocess("--vast-max-instances=2", "-n2")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*is held by a test that waits for one more itself*"])
    assert rents(market) == {"one": 3}
    assert most_at_once(market) == 2


@pytest.mark.slow
def test_a_controller_that_is_killed_leaves_no_file_where_its_workers_called(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    market = rent_from(FLEET)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    pytester.makepyfile(SUITE + "def test_it(vast_instance): time.sleep(60)")
    run = PytestRun(pytester.path, "-n2", "-p", "no:cacheprovider")
    try:
        run.until("ready after")
        run.kill_controller()
        until(lambda: not alive(market), bool)
    finally:
        run.end()
    assert list(tmp_path.glob("vastgpu*")) == []
