"""Each of the nets that catch what a run has rented, with the others off; the market says what is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.supervisor.cleanup.recover import due
from pytest_vastgpu.supervisor.cleanup.recover import recover
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.behaviour.conftest import TimeLimits
from tests.support.looks import alive
from tests.support.looks import is_running
from tests.support.looks import open_files
from tests.support.looks import until
from tests.support.vast import make_status
from tests.support.vast import search_offers

slow = pytest.mark.slow
SLEEPS = WORKLOAD + "import time\ndef test_it(vast_instance): time.sleep(60)\n"
PASSES = WORKLOAD + "def test_it(vast_instance): pass\n"
FLEET = {"machines": [{"count": 3}]}


# --- the guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "workers"),
    [
        ("ready after", 0),
        pytest.param("created instance", 0, marks=slow),
        pytest.param("SSH answers", 2, marks=slow),
        pytest.param("ready after", 2, marks=slow),
        pytest.param("destroying", 0, marks=slow),
    ],
)
def test_the_guard_destroys_what_a_killed_supervisor_has_left(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, moment: str, workers: int
) -> None:
    late = moment == "destroying"  # a destroy that succeeds at once would leave the guard nothing to do
    market = rent_from({**FLEET, "faults": [{"name": "destroy_fails"}] * late})
    pytester.makepyfile(PASSES if late else SLEEPS)
    run = start(f"-n{workers}")
    run.until(moment)
    guard = run.record.guard
    assert Path(f"/proc/{guard}/cwd").readlink() == Path("/")
    assert os.getsid(guard) == guard
    # Its log, and the pipe from its owner; it closes the one to its owner once it has said that it is ready.
    held = until(lambda: open_files(guard), lambda held: len(held) == 2)
    assert {name for name in held if not name.startswith("pipe:")} == {str(run.directory / "guard.log")}
    environ = Path(f"/proc/{guard}/cmdline").read_text() + run.output
    assert market.api_key not in environ
    run.kill_supervisor()
    until(lambda: not is_running(guard), bool)
    assert alive(market) == set(), run.directory.joinpath("guard.log").read_text()
    assert run.record.left(time.time()) == []
    with open_provider(market.url, market.api_key) as client:
        assert list(client.account_keys()) == [], "the run has added its key to the account"
    assert '"by": "guard"' in run.directory.joinpath(FILE).read_text()


@slow
def test_a_child_that_the_run_has_forked_does_not_hide_its_death(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        WORKLOAD
        + """
import os, signal, time

def test_it(vast_instance):
    child = os.fork()
    if child:
        print(f"its child is {child}", flush=True)
    time.sleep(60)
    os._exit(0)
"""
    )
    run = start("-s")
    child = int(run.until("its child is").split()[-1])
    try:
        guard = run.record.guard
        run.process.kill()
        until(lambda: not is_running(guard), bool)
        assert alive(market) == set()
        assert is_running(child)
    finally:
        os.kill(child, signal.SIGKILL)


@slow
def test_a_test_that_closes_what_it_does_not_know_ends_the_run_and_is_told_so(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        WORKLOAD
        + """
import os

def test_1(vast_instance):
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{name}") and os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
            os.close(int(name))

def test_2(vast_instance):
    pass
"""
    )
    run = start()
    assert run.rest() == pytest.ExitCode.TESTS_FAILED
    assert "1 passed, 1 error" in run.output
    assert "which owns what this run has rented, is gone" in run.output, run.output
    assert alive(market) == set()


@slow
def test_a_guard_that_died_is_replaced_before_the_next_create(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        WORKLOAD
        + """
import json, os, pathlib, select, signal, time

def guards():
    (ledger,) = pathlib.Path.home().glob(".local/state/pytest-vastgpu/runs/*/ledger.jsonl")
    return [row["pid"] for row in map(json.loads, ledger.read_text().splitlines()) if row["step"] == "guard"]

def test_it(vast_instance_factory, vast_workload):
    vast_instance_factory(vast_workload)
    (first,) = guards()
    end = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    select.select([end], [], [])  # a signal is sent before it works
    vast_instance_factory(vast_workload)
    assert len(guards()) == 2
    print("both there", flush=True)
    time.sleep(60)
"""
    )
    run = start("-s")
    run.until("both there")
    assert len(alive(market)) == 2
    guard = run.record.guard
    run.kill_controller()
    until(lambda: not is_running(guard), bool)
    assert alive(market) == set()


# --- a create whose answer is lost ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_create_in_flight_when_the_run_is_killed_is_settled_by_its_label(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from({**FLEET, "faults": [{"name": "create_slow", "delay_s": 30}]})
    pytester.makepyfile(SLEEPS)
    run = start()
    until(lambda: len(alive(market)) == 1, bool)
    guard = run.record.guard
    assert [entry.instance_id for entry in run.record.entries.values()] == [0], "nobody has told us"
    run.kill_supervisor()
    until(lambda: not is_running(guard), bool)
    assert alive(market) == set()
    assert set(market.status()["rents_per_label"].values()) == {1}


@slow
@pytest.mark.parametrize("kill", [False, True])
def test_a_create_whose_answer_is_lost_and_that_no_list_shows_is_found_in_the_end(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, kill: bool
) -> None:
    lags = {"name": "list_lags", "times": 4 if kill else 7}  # the first one is the sweep's; each look takes one
    market = rent_from({**FLEET, "faults": ["create_lost", lags]})
    pytester.makepyfile(PASSES)
    run = start()
    if kill:
        until(lambda: len(alive(market)) == 1, bool)
        guard = run.record.guard
        run.kill_supervisor()
        until(lambda: not is_running(guard), bool)
    else:
        assert run.rest() == pytest.ExitCode.TESTS_FAILED
        assert "a create was never answered: seeing for" in run.output
    assert alive(market) == set(), run.output
    assert list(market.status()["rents_per_label"].values()) == [1]


# --- the sweep --------------------------------------------------------------------------------------------------------


WAITS_FOR_THE_SWEEP = (
    WORKLOAD
    + """
import pathlib, time

def test_it(vast_instance):
    logs = pathlib.Path.home().rglob
    while not any("left behind by earlier runs" in log.read_text() for log in logs("events.jsonl")):
        time.sleep(0.05)
"""
)


@pytest.mark.slow
def test_the_next_run_sweeps_what_nobody_was_left_to_destroy(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from({"machines": [{"count": 6}]})
    pytester.makepyfile(SLEEPS.replace("60", "600"))  # the one that lives is there until it is told to end
    living, dead = start(), start()
    living.until("ready after")
    dead.until("ready after")
    # Both may have asked for the same offer, which only one of them got: that create has no instance.
    theirs = {entry.instance_id for entry in living.record.entries.values() if entry.instance_id}
    assert len(theirs) == 1
    dead.kill_guard()
    killed = dead.kill_supervisor()
    dead.kill_controller()
    until(lambda: is_running(killed), lambda running: not running)
    with open_provider(market.url, market.api_key) as client:
        offers = search_offers(client, {"rentable": {"eq": True}, "rented": {"eq": False}})
        foreign = {
            client.create(offer.id, CreateRequest("image", 10, label))
            for offer, label in zip(offers, ("training", make_label("elsewhere", 1, time.time() + 3600)), strict=False)
        }
        overdue = client.create(offers[2].id, CreateRequest("image", 10, make_label("elsewhere", 2, time.time() - 61)))
        left = alive(market) - theirs - foreign
        assert len(left) == 2
        pytester.makepyfile(WAITS_FOR_THE_SWEEP)
        result = pytester.runpytest_inprocess("-p", "no:randomly")
        result.assert_outcomes(passed=1)
        (line,) = [line for line in result.outlines if "left behind by earlier runs, and gone now: instances" in line]
        assert all(str(instance) in line for instance in left)
        assert str(overdue) in line
        assert alive(market) == theirs | foreign
        for instance in foreign:
            client.destroy(instance)
    living.process.send_signal(signal.SIGTERM)
    assert living.rest() == pytest.ExitCode.INTERRUPTED


# --- signals, and other ends of a session -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group", "workers"),
    [
        (signal.SIGHUP, False, 0),
        pytest.param(signal.SIGTERM, True, 2, marks=slow),
        pytest.param(signal.SIGHUP, True, 2, marks=slow),
        pytest.param(signal.SIGTERM, True, 0, marks=slow),
    ],
)
def test_the_session_end_alone(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, number: signal.Signals, group: bool, workers: int
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(SLEEPS)
    run = start(f"-n{workers}")
    run.until("ready after")
    run.kill_guard()
    if group:
        os.killpg(run.process.pid, number)
    else:
        run.process.send_signal(number)
    assert run.rest() == pytest.ExitCode.INTERRUPTED, run.output
    assert alive(market) == set(), run.output
    assert "gone after" in run.output
    assert "Traceback" not in run.output


@slow
def test_a_signal_that_is_ignored_stays_ignored(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from(FLEET)
    pytester.makepyfile(
        WORKLOAD
        + """
import os, signal

def test_it(vast_instance):
    os.kill(os.getpid(), signal.SIGHUP)
"""
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pytester.runpytest_inprocess().assert_outcomes(passed=1)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


ENDS: dict[str, tuple[str, str, tuple[str, ...], int]] = {
    # name: (test, conftest, arguments, exit code)
    "exit": ("pytest.exit('enough')", "", (), 2),
    "first_failure": ("assert 0", "", ("-x",), 1),
    "internal_error": ("pass", "def pytest_runtest_logreport(report):\n    if report.when == 'call': 1 / 0", (), 3),
    "crashed_worker": ("import os; os._exit(1)", "", ("-n1", "--max-worker-restart=0"), 1),
    "exit_in_a_worker": ("pytest.exit('enough')", "", ("-n2",), 2),
    "internal_error_in_a_worker": (
        "pass",
        "import sys\ndef pytest_runtest_call(item):\n    if hasattr(item.config, 'workerinput'): raise SystemExit(3)",
        ("-n1",),
        1,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name == "crashed_worker" else pytest.param(name, marks=slow) for name in ENDS]
)
def test_however_a_session_ends_everything_is_given_back(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, name: str
) -> None:
    body, conftest, arguments, code = ENDS[name]
    market = rent_from(FLEET)
    pytester.makeconftest(conftest)
    pytester.makepyfile(
        WORKLOAD
        + f"""
def test_1(vast_instance):
    {body}

def test_2(vast_instance): pass
"""
    )
    run = start(*arguments)
    run.until("ready after")
    run.kill_guard()
    assert run.rest() == code, run.output
    assert alive(market) == set(), run.output
    assert "gone after" in run.output


@slow
def test_a_terminal_that_is_gone_does_not_keep_anything_alive(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from({"machines": [{"faults": [{"name": "destroy_fails", "times": 6}]}]})
    pytester.makepyfile(SLEEPS)
    run = start()
    run.until("ready after")
    run.kill_guard()
    assert run.process.stdout is not None
    run.process.stdout.close()
    run.process.send_signal(signal.SIGHUP)
    run.process.wait()
    assert alive(market) == set()


# --- what resists -----------------------------------------------------------------------------------------------------


@slow
def test_what_is_left_in_the_end_is_told_and_the_guard_goes_on(
    pytester: pytest.Pytester, rent_from: RentFrom, time_limits: TimeLimits
) -> None:
    market = rent_from({"machines": [{"price_usd_h": 0.2, "faults": [{"name": "destroy_fails", "times": 20}]}]})
    time_limits.change(destroy_within_s=0.1, market_pause_s=0.01)
    pytester.makepyfile(PASSES)
    result = pytester.runpytest_inprocess("--color=yes")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (left,) = alive(market)
    (line,) = [line for line in result.outlines if "STILL RUNNING" in line]
    assert line.startswith("\x1b[31m")
    assert f"`vastgpu destroy {left}`" in line
    assert "at 0.202 USD/h" in line  # with its disk
    (directory,) = runs_dir().iterdir()
    guard = read_ledger(directory / FILE).guard
    until(lambda: not is_running(guard), bool)
    assert alive(market) == set()


@slow
def test_what_is_left_is_told_also_where_pytest_writes_no_summary(
    pytester: pytest.Pytester, rent_from: RentFrom, time_limits: TimeLimits
) -> None:
    market = rent_from({"machines": [{"faults": [{"name": "destroy_fails", "times": 20}]}]})
    time_limits.change(destroy_within_s=0.1, market_pause_s=0.01)
    pytester.makeconftest("def pytest_runtest_logreport(report):\n    if report.when == 'call': 1 / 0")
    pytester.makepyfile(PASSES)
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert result.stderr.str().count("vastgpu: STILL RUNNING: instance ") == 1
    (directory,) = runs_dir().iterdir()
    guard = read_ledger(directory / FILE).guard
    until(lambda: not is_running(guard), bool)
    assert alive(market) == set()


# --- the ledger, cut short --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_recorded_run_cut_off_at_any_byte_hides_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(PASSES)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    (directory,) = runs_dir().iterdir()
    ledger = directory / FILE
    whole = ledger.read_bytes()
    (entry,) = read_ledger(ledger).entries.values()
    intended = whole.index(b"\n", whole.index(b'"intended"'))
    told = whole.index(b"\n", whole.index(b'"created"'))
    gone = whole.index(b"\n", whole.index(b'"step": "gone"'))
    shown = make_status(id=entry.instance_id, label=entry.label, actual_status="running")
    for end in range(len(whole) + 1):
        ledger.write_bytes(whole[:end])
        record = read_ledger(ledger)
        listed = due(directory.name, record, [shown], time.time())
        assert [each.instance_id for each in listed.destroy] == [entry.instance_id], "it is on the market"
        hidden = due(directory.name, record, [], time.time())
        assert bool(hidden.destroy) is (told <= end < gone)
        assert bool(hidden.look_for) is (intended <= end < told)

    quick = Timeouts(recovery_pauses_s=(0.05,))
    with open_provider(market.url, market.api_key) as client:
        for end in (0, intended, told - 1, gone):
            offer = search_offers(client, {"rentable": {"eq": True}, "rented": {"eq": False}})[0]
            again = client.create(offer.id, CreateRequest("image", 10, entry.label))
            ledger.write_bytes(whole[:end].replace(str(entry.instance_id).encode(), str(again).encode()))
            assert recover(directory, client, by="test", timeouts=quick).destroyed == [again]
            assert alive(market) == set()
