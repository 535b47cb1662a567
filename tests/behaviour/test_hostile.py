"""Tests that do to their own process what tests do: what is rented lives elsewhere, and does not notice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.behaviour.conftest import TimeLimits
from tests.support.looks import alive
from tests.support.looks import is_running
from tests.support.looks import open_files
from tests.support.looks import until

slow = pytest.mark.slow
HERE = {"this_machine": True}
LONGER_THAN_THE_LEASE_S = 14.0
"""Than one of ten seconds, which a machine that does nothing for five of them does not let end."""
NO_GPU = WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0")

COMES_AND_GOES = """
def comes_and_goes(factory, workload):
    one = factory(workload)
    assert one.run("echo hello").stdout == "hello\\n"
    assert one.cost_so_far < 1
    one.close()
    two = factory(workload)
    assert "serving" in two.logs()
    assert two.id != one.id
"""
"""In a test, however hostile: one instance comes up and goes, another comes up."""

PATCHES = {
    "httpx": """
    def mocked(*_, **__): return httpx.Response(200, json={"success": True, "instances": None})
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", mocked)
    monkeypatch.setattr(httpx.Client, "send", mocked)
""",
    "clock": """
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(time, "monotonic", lambda: 4e9)
    monkeypatch.setattr(time, "sleep", no)
""",
    "files": """
    for module, name in ((builtins, "open"), (os, "open"), (os, "stat"), (pathlib.Path, "open"), (os, "mkdir")):
        monkeypatch.setattr(module, name, no)
""",
    "socket": """
    monkeypatch.setattr(socket.socket, "connect", no)
    monkeypatch.setattr(socket.socket, "sendall", no)
    monkeypatch.setattr(socket.socket, "recv_into", no)
    monkeypatch.setattr(socket, "socket", no)
    monkeypatch.setattr(socket, "create_connection", no)
""",
    "threads": """
    monkeypatch.setattr(threading.Thread, "start", no)
    monkeypatch.setattr(threading, "Thread", no)
""",
    "processes": """
    monkeypatch.setattr(subprocess, "Popen", no)
    monkeypatch.setattr(json, "loads", no)
    monkeypatch.setattr(json, "dumps", no)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("VAST_API_KEY")
    monkeypatch.chdir("/")
""",
}


def cost(home: Path) -> dict[str, Any]:
    """What the only run of this test has cost."""
    (path,) = home.glob(".local/state/pytest-vastgpu/runs/*/cost.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("patched", [pytest.param(name, marks=() if name == "socket" else slow) for name in PATCHES])
def test_whatever_a_test_replaces_instances_come_and_go(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path, patched: str
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + COMES_AND_GOES
        + f"""
import builtins, json, os, pathlib, socket, subprocess, threading, time

def no(*_, **__):
    raise RuntimeError("not in this test")

def test_it(vast_instance_factory, vast_workload, monkeypatch):
{PATCHES[patched]}
    try:
        comes_and_goes(vast_instance_factory, vast_workload)
    finally:
        monkeypatch.undo()
"""
    )
    pytester.runpytest_inprocess("-p", "no:randomly").assert_outcomes(passed=1)
    assert len(market.status()["ended"]) == 2
    assert alive(market) == set()
    books = cost(home)
    assert [each["gone"] for each in books["instances"]] == [True, True]
    assert 0 < books["total_usd"] < 0.01


@pytest.mark.slow
def test_a_forked_child_asks_on_a_line_of_its_own(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
import os

def test_it(vast_instance, vast_instance_factory, vast_workload):
    child = os.fork()
    if not child:
        code = 1
        try:
            assert vast_instance.run("echo child").stdout == "child\\n"
            assert "serving" in vast_instance.logs()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert vast_instance.run("echo parent").stdout == "parent\\n"
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert len(market.status()["ended"]) == 1


@pytest.mark.slow
def test_a_command_that_no_shell_could_take_is_told(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
from pytest_vastgpu.errors import ConfigurationError

def test_it(vast_instance):
    with pytest.raises(ConfigurationError, match="holds a NUL"):
        vast_instance.run("echo \\0")
    with pytest.raises(ConfigurationError, match="no text"):
        vast_instance.run("echo \\udc80")
    assert vast_instance.run("true").ok
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@slow
def test_what_a_forked_child_rents_goes_back_when_the_child_is_gone(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + f"""
import os, time
ASK = dict(url={market.url + "/_market/status"!r}, headers={{"Authorization": {"Bearer " + market.api_key!r}}})

def test_it(vast_instance, vast_instance_factory, vast_workload):
    child = os.fork()
    if not child:
        vast_instance_factory(vast_workload)
        os._exit(len(httpx.get(**ASK, timeout=60).json()["alive"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    while len(httpx.get(**ASK, timeout=60).json()["alive"]) != 1:
        time.sleep(0.05)
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert len(market.status()["ended"]) == 2


@pytest.mark.slow
def test_a_test_that_removes_our_records_loses_nothing_and_rents_nothing_more(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
import pathlib, shutil

def test_1(vast_instance):
    shutil.rmtree(pathlib.Path.home() / ".local/state/pytest-vastgpu/runs")
    assert vast_instance.run("true").ok

def test_2(vast_instance_factory, vast_workload):
    vast_instance_factory(vast_workload)
"""
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the ledger * cannot be written (it was removed): nothing is rented without one;*"])
    result.stdout.no_fnmatch_line("*STILL RUNNING*")
    result.stdout.no_fnmatch_line("*a defect of*")
    assert len(market.status()["ended"]) == 1
    assert alive(market) == set()


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_is_no_instance_that_is_left(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    """Here files of the supervisor cannot grow any more, from some time after the create on."""
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
import pathlib, resource

def test_it(vast_instance):
    ledger, = pathlib.Path.home().glob(".local/state/pytest-vastgpu/runs/*/ledger.jsonl")
    supervisor = __import__("json").loads(ledger.read_text().splitlines()[0])["pid"]
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (1, 1))
"""
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*cost.json cannot be written*"])
    result.stdout.no_fnmatch_line("*STILL RUNNING*")
    assert alive(market) == set()


# --- who keeps the instances alive -----------------------------------------------------------------------------------


@slow
def test_a_test_that_holds_the_interpreter_for_longer_than_the_lease_loses_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + f"""
import ctypes

def test_it(vast_instance):
    ctypes.PyDLL(None).usleep({LONGER_THAN_THE_LEASE_S * 1e6:.0f})  # does not let go of the interpreter's lock
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
    assert vast_instance.run("true").ok
"""
    )
    pytester.runpytest_subprocess("--vast-lease=10").assert_outcomes(passed=1)


@slow
def test_a_pytest_that_is_stopped_for_longer_than_the_lease_loses_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
import pathlib, time

def test_it(vast_instance):
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
"""
    )
    run = start("--vast-lease=10")
    run.until("ready after")
    os.kill(run.process.pid, signal.SIGSTOP)
    instance = next(iter(alive(market)))
    signal.sigtimedwait([], LONGER_THAN_THE_LEASE_S)  # time itself is what is waited for here
    assert alive(market) == {instance}
    (pytester.path / "go").touch()
    os.kill(run.process.pid, signal.SIGCONT)
    assert run.rest() == pytest.ExitCode.OK, run.output


@slow
def test_a_debugger_that_waits_for_longer_than_the_lease_loses_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
def test_1(vast_instance):
    assert 0

def test_2(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
"""
    )
    run = start("--vast-lease=10", "--pdb", "-s", stdin=True)
    run.until("entering PDB")
    signal.sigtimedwait([], LONGER_THAN_THE_LEASE_S)  # time itself is what is waited for here
    run.say("continue\n")
    assert run.rest() == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in run.output


@slow
@pytest.mark.parametrize("where", ["a prompt", "a test"])
def test_sigterm_ends_a_run_with_a_debugger_and_everything_is_given_back(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, where: str
) -> None:
    market = rent_from(HERE)
    body = "assert 0" if where == "a prompt" else "print('test begins', flush=True); time.sleep(60)"
    pytester.makepyfile(f"{NO_GPU}\nimport time\ndef test_it(vast_instance):\n    {body}\n")
    run = start("--pdb", "-s", stdin=True)
    run.until("-> assert 0" if where == "a prompt" else "test begins")
    run.process.send_signal(signal.SIGTERM)
    assert run.rest() == pytest.ExitCode.INTERRUPTED, run.output
    run.say("")
    assert "Exit: SIGTERM" in run.output
    assert not alive(market)


@pytest.mark.slow
def test_a_logging_handler_that_fails_a_test_fails_nothing_of_ours(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
import logging

class NoLogging(logging.Handler):
    def handle(self, record):
        pytest.fail("nothing may be logged")

def test_it(vast_instance_factory, vast_workload):
    handler = NoLogging()
    logging.getLogger("pytest_vastgpu").addHandler(handler)
    try:
        vast_instance_factory(vast_workload)
    finally:
        logging.getLogger("pytest_vastgpu").removeHandler(handler)
"""
    )
    result = pytester.runpytest_subprocess("--log-level=INFO", "-W", "error")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*ready after*", "*gone after*"])
    assert alive(market) == set()


# --- whoever is killed -----------------------------------------------------------------------------------------------


def test_a_killed_pytest_leaves_nothing(pytester: pytest.Pytester, rent_from: RentFrom, start: Start) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(NO_GPU + "import time\ndef test_it(vast_instance): time.sleep(60)")
    run = start()
    run.until("ready after")
    supervisor, guard = run.supervisor, run.kill_guard()
    run.kill_controller()
    until(lambda: is_running(supervisor) or is_running(guard), lambda running: not running)
    assert alive(market) == set()


@pytest.mark.slow
def test_a_pytest_that_dies_as_soon_as_the_supervisor_is_started_leaves_none(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    rent_from(HERE)
    pytester.makeconftest(
        """
import os
import subprocess

class Started(subprocess.Popen):
    def __init__(self, command, **how):
        super().__init__(command, **how)
        if "pytest_vastgpu.supervisor.start" in command[-3]:
            open("pid", "w").write(str(self.pid))
            self.stdin.close = lambda: os._exit(9)

subprocess.Popen = Started
"""
    )
    pytester.makepyfile(NO_GPU + "def test_it(vast_instance): pass")
    assert pytester.runpytest_subprocess().ret == 9
    supervisor = int((pytester.path / "pid").read_text())
    until(lambda: is_running(supervisor), lambda running: not running)


@pytest.mark.slow
def test_a_judge_that_is_stopped_does_not_stop_the_end(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(NO_GPU + "import time\ndef test_it(vast_instance): time.sleep(60)")
    run = start()
    run.until("ready after")
    children: set[int] = set()
    for path in Path(f"/proc/{run.supervisor}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            children |= set(map(int, path.read_text().split()))
    (judge,) = children - {run.record.guard}
    os.kill(judge, signal.SIGSTOP)
    run.process.send_signal(signal.SIGINT)
    assert run.rest() == pytest.ExitCode.INTERRUPTED
    assert not is_running(judge)
    assert alive(market) == set()


def test_when_the_supervisor_dies_tests_fail_at_once_and_are_told_why(
    pytester: pytest.Pytester, rent_from: RentFrom, time_limits: TimeLimits
) -> None:
    time_limits.change(guard_within_s=120.0)
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
import os, signal

def test_1(vast_instance):
    ledger, = __import__("pathlib").Path.home().glob(".local/state/pytest-vastgpu/runs/*/ledger.jsonl")
    os.kill(__import__("json").loads(ledger.read_text().splitlines()[0])["pid"], signal.SIGKILL)
    vast_instance.run("true")

def test_2(vast_instance): pass

def test_3(): pass
"""
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(failed=1, errors=1, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*which owns what this run has rented, is gone (killed by SIGKILL)*"])
    result.stdout.no_fnmatch_line("*STILL RUNNING*")
    assert alive(market) == set(), "the guard has given it back before the run was over"
    assert len(market.status()["ended"]) == 1, "no other supervisor was started"


@pytest.mark.slow
def test_the_supervisor_has_nothing_of_pytests_and_shows_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = rent_from(HERE)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("COVERAGE_FILE", "none")
    pytester.path.joinpath("paramiko.py").write_text("raise RuntimeError('this directory is imported from')")
    pytester.makepyfile(NO_GPU + "import time\ndef test_it(vast_instance): time.sleep(60)")
    run = start("-p", "no:cacheprovider")
    run.until("ready after")
    place = Path(f"/proc/{run.supervisor}")
    pipes = {name for name in open_files(run.process.pid) if name.startswith("pipe:")}
    assert pipes
    assert not pipes & open_files(run.supervisor), "who reads what pytest prints would wait for the supervisor"
    assert (place / "cwd").readlink() == Path("/")
    assert os.getsid(run.supervisor) == run.supervisor
    environ = {line.partition("=")[0] for line in (place / "environ").read_text().split("\0")}
    assert not {name for name in environ if name.startswith(("PYTEST_", "COVERAGE_", "PYTHONWARNINGS", "VAST_API_KEY"))}
    assert market.api_key not in (place / "cmdline").read_text()
    run.process.send_signal(signal.SIGTERM)
    assert run.rest() == pytest.ExitCode.INTERRUPTED


# --- the account's key -----------------------------------------------------------------------------------------------

PHASES = (
    "pytest_collection_modifyitems",
    "pytest_collection_finish",
    "pytest_runtestloop",
    "pytest_runtest_logstart",
    "pytest_runtest_makereport",
    "pytest_runtest_logreport",
    "pytest_runtest_logfinish",
    "pytest_fixture_setup",
    "pytest_fixture_post_finalizer",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_unconfigure",
    "pytest_vastgpu_adapters",
    "pytest_vastgpu_modify_offers",
    "pytest_vastgpu_outcome",
)


@slow
@pytest.mark.parametrize(
    "phase", [name if name == "pytest_runtest_logreport" else pytest.param(name, marks=slow) for name in PHASES]
)
def test_an_internal_error_with_all_variables_shows_no_key(
    pytester: pytest.Pytester, rent_from: RentFrom, phase: str
) -> None:
    market = rent_from(HERE)
    pytester.makeconftest(f"def {phase}():\n    raise ValueError('forced')\n")
    pytester.makepyfile(NO_GPU + "def test_it(vast_instance): assert vast_instance.run('exit 3').ok")
    result = pytester.runpytest_subprocess("-l", "--full-trace", "--junitxml=junit.xml", "-p", "no:randomly")
    assert result.ret != pytest.ExitCode.OK
    junit = pytester.path / "junit.xml"
    said = result.stdout.str() + result.stderr.str() + (junit.read_text() if junit.exists() else "")
    assert "forced" in said
    assert market.api_key not in said
    assert alive(market) == set()


@slow
def test_no_object_of_a_test_process_holds_the_key(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
import gc, os, sys

def test_it(vast_instance):
    key = os.environ.pop("VAST_API_KEY")
    needles = (key, key.encode())

    def has(value):
        return isinstance(value, (str, bytes)) and any(type(n) is type(value) and n in value for n in needles)

    mine = [needles, sys._getframe()]
    frames = [frame for top in sys._current_frames().values() for frame in stack(top)]
    held = [each for frame in frames if frame is not mine[1] for each in frame.f_locals.values() if has(each)]
    held += [
        each for each in gc.get_objects()
        if not any(each is other for other in mine) and each is not sys._getframe().f_locals
        and any(has(part) for part in gc.get_referents(each))
    ]
    held = [each for each in held if not isinstance(each, type(has.__closure__[0])) and each is not needles]
    assert not held, [type(each) for each in held]

def stack(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back
"""
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)
    assert alive(market) == set()


@pytest.mark.slow
def test_a_registry_login_pulls_a_private_image_and_is_shown_nowhere(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = {"docker.io": "-u bob -p Fish-and-9-chips docker.io", "ghcr.io": "-u eve -p Bread-8-butter ghcr.io"}
    market = rent_from(
        {
            "machines": [
                {"machine_id": 1, "faults": [{"name": "image_private", "login": logins["docker.io"]}]},
                {
                    "machine_id": 2,
                    "gpu_name": "L40S",
                    "faults": [{"name": "image_private", "login": logins["ghcr.io"]}],
                },
            ]
        }
    )
    monkeypatch.setenv("VAST_IMAGE_LOGIN", logins["docker.io"])
    monkeypatch.setenv("OWN_LOGIN", logins["ghcr.io"])
    pytester.makepyfile(
        WORKLOAD
        + """
import os
OWN = os.environ["OWN_LOGIN"]

@pytest.mark.vast(image="me/private", gpu_name="RTX 4090")
def test_the_variable_s(vast_instance, request):
    login, workload = os.environ["VAST_IMAGE_LOGIN"], request.getfixturevalue("vast_workload")
    print(login)
    assert httpx.get(vast_instance.endpoint, timeout=60).text == login

@pytest.mark.vast(image="me/private", image_login=OWN, gpu_name="L40S")
def test_its_own(vast_instance):
    password = OWN.split()[3]
    assert httpx.get(vast_instance.endpoint, timeout=60).text == password
"""
    )
    result = pytester.runpytest_inprocess(
        "--showlocals", "--junit-xml=junit.xml", "-rA", "--vast-strictness=aggressive", "--vast-boot-timeout=20"
    )
    result.assert_outcomes(failed=2)
    assert sorted(rent["machine_id"] for rent in market.status()["ended"]) == [1, 2]
    kept = [path for path in (*home.rglob("*"), *pytester.path.glob("junit.xml")) if path.is_file()]
    texts = [result.stdout.str(), result.stderr.str(), *(path.read_text(errors="replace") for path in kept)]
    for secret in ("Fish-and-9-chips", "Bread-8-butter"):
        assert not [text for text in texts if secret in text]
