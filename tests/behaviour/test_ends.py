"""Ctrl-C ends any wait but giving back within five seconds, whatever hangs; giving back says what it waits for."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.support.limits import conftest_with
from tests.support.looks import alive
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.runs import PytestRun

slow = pytest.mark.slow
WITHIN_S = 5.0
SLACK_S = 120.0
"""For a machine that has other things to do, or is suspended: what is bounded here would otherwise take ten minutes."""
ACQUIRES = WORKLOAD + "def test_it(vast_instance): pass\n"
SLEEPS = WORKLOAD + "import time\ndef test_it(vast_instance): time.sleep(600)\n"
SLEEPS_LATE = SLEEPS.replace("(vast_instance): ", "(request): request.getfixturevalue('vast_instance'); ")
PATIENT = conftest_with(exchange_s=600.0)
"""A run in which a call may take long, unless somebody ends it."""


def asked(market: LocalMarket, endpoint: str) -> int:
    return sum(call["count"] for call in market.status()["calls"] if call["endpoint"] == endpoint)


def interrupted(run: PytestRun, number: int = signal.SIGINT) -> float:
    """Send a signal; seconds until the run has ended."""
    began = time.monotonic()
    os.kill(run.process.pid, number)
    assert run.rest() == pytest.ExitCode.INTERRUPTED, run.output
    return time.monotonic() - began


def stopped(pid: int) -> int:
    os.kill(pid, signal.SIGSTOP)
    return pid


# --- any wait but giving back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "number", "more"),
    [
        pytest.param("account", signal.SIGTERM, ["-q"], id="opening"),
        pytest.param("account", signal.SIGINT, ["-n1"], id="opening-in-workers", marks=slow),
        pytest.param("search", signal.SIGINT, [], id="searching", marks=slow),
        pytest.param("search", signal.SIGHUP, ["-n2"], id="searching-in-workers", marks=slow),
        pytest.param("list", signal.SIGINT, [], id="booting", marks=slow),
        pytest.param("instance_keys", signal.SIGINT, [], id="attaching", marks=slow),
    ],
)
def test_ctrl_c_ends_a_call_that_does_not_come_to_an_end(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, endpoint: str, number: int, more: list[str]
) -> None:
    fault = {"name": "endless_headers", "endpoint": endpoint, "times": 1}
    market = rent_from({"machines": [{}], "faults": [fault]})
    pytester.makeconftest(PATIENT)
    pytester.makepyfile(ACQUIRES)
    run = start(*more)
    until(lambda: asked(market, endpoint), lambda count: count > 0)
    took_s = interrupted(run, number)
    assert took_s < WITHIN_S + SLACK_S, run.output
    assert alive(market) == set()


@slow
def test_ctrl_c_ends_a_create_and_its_answer_is_looked_for(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from({"machines": [{"faults": [{"name": "create_silent"}]}]})
    pytester.makeconftest(PATIENT)
    pytester.makepyfile(ACQUIRES)
    run = start()
    until(lambda: alive(market), bool)
    assert interrupted(run) < WITHIN_S + SLACK_S, run.output
    assert alive(market) == set()


@slow
@pytest.mark.parametrize("moment", ["booting", "SSH answers", "warming"])
def test_ctrl_c_ends_a_bring_up_at_any_moment(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, moment: str
) -> None:
    market = rent_from({"machines": [{"faults": [{"name": "server_hangs"}]}]})
    pytester.makepyfile(ACQUIRES)
    run = start()
    run.until(moment)
    assert interrupted(run) < WITHIN_S + SLACK_S, run.output
    assert alive(market) == set()


# --- giving back ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "source"),
    [
        (["-q"], SLEEPS),
        pytest.param(["-n1", "-q"], SLEEPS, marks=slow),
        pytest.param(["-n1", "-q"], SLEEPS_LATE, marks=slow),
        pytest.param(["--capture=fd", "-v"], SLEEPS, marks=slow),
    ],
)
def test_giving_back_says_what_it_waits_for(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, more: list[str], source: str
) -> None:
    """Here the market is stopped: it takes connections, and says nothing."""
    market = rent_from({"machines": [{}]})
    pytester.makeconftest(QUICK)
    pytester.makepyfile(source)
    run = start(*more)
    (instance,) = until(lambda: alive(market), bool)
    # The market has rented it before its answer has been read, and until then nobody here knows its number.
    until(lambda: [entry.instance_id for entry in run.record.entries.values()], lambda ids: ids == [instance])
    stopped(market.pid)
    try:
        os.kill(run.process.pid, signal.SIGINT)
        lines = [run.until(f" for instance {instance}") for _ in range(2)]
    finally:
        os.kill(market.pid, signal.SIGCONT)
    assert run.rest() == pytest.ExitCode.INTERRUPTED
    assert all("still giving back" in line for line in lines)
    assert alive(market) == set()


@slow
@pytest.mark.parametrize("more", [[], ["-n1"]])
def test_a_supervisor_that_is_stopped_is_given_up_and_its_guard_gives_back(
    pytester: pytest.Pytester,
    rent_from: RentFrom,
    start: Start,
    more: list[str],
) -> None:
    market = rent_from({"machines": [{}]})
    pytester.makeconftest(IMPATIENT)
    pytester.makepyfile(SLEEPS)
    run = start(*more)
    run.until("ready after")
    supervisor = stopped(run.supervisor)
    os.kill(run.process.pid, signal.SIGINT)
    run.until("has not answered for 8 s: is it stopped?")
    assert run.rest() == pytest.ExitCode.INTERRUPTED
    assert not is_running(supervisor)
    assert "STILL RUNNING" not in run.output
    assert alive(market) == set()


QUICK = conftest_with(told_every_s=1.0, rate_limits=False)
"""A run that says often what it waits for."""
IMPATIENT = conftest_with(answers_s=8.0, told_every_s=1.0, rate_limits=False)
"""A run that gives up a supervisor soon, and not one that a busy machine does not let run for some seconds."""


@slow
def test_a_worker_that_comes_after_the_supervisor_has_died_tells_each_test_why(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from({"machines": [{}]})
    pytester.makepyfile(
        WORKLOAD
        + """
import json, os, pathlib, signal

def test_1(vast_instance):
    ledger, = pathlib.Path.home().glob(".local/state/pytest-vastgpu/runs/*/ledger.jsonl")
    os.kill(json.loads(ledger.read_text().splitlines()[0])["pid"], signal.SIGKILL)
    os._exit(1)

def test_2(vast_instance): pass

def test_3(vast_instance): pass
"""
    )
    result = pytester.runpytest_subprocess("-n1", "-p", "no:randomly")
    result.assert_outcomes(failed=1, errors=2)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.fnmatch_lines(["*the run ended before anything was rented*"])
    assert alive(market) == set()
