"""What is between pytest and a host is struck down: nothing hangs, nothing is left, and nothing is a traceback."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hidden import HiddenHosts
from tests.support.looks import alive
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.runs import PytestRun

TESTS = """
import os, pathlib, subprocess, time

def test_it():
    seen = pathlib.Path(os.environ["HOME"], "seen")
    if seen.exists():
        assert not os.path.exists(f"/proc/{seen.read_text()}"), "what it has left runs"
        return
    left = subprocess.Popen(["sleep", "%s"], start_new_session=True)
    seen.write_text(str(left.pid))
    os.write(2, b"it is up\\n")
    time.sleep(1000)
"""
"""Of the first run it leaves a process in a session of its own."""

Start = Callable[..., PytestRun]


@pytest.fixture
def slept_s() -> str:
    """How long the process sleeps that is left: no other one sleeps that long."""
    return f"8{secrets.randbelow(10**9)}"


@pytest.fixture
def start(hidden_hosts: HiddenHosts, monkeypatch: pytest.MonkeyPatch, slept_s: str) -> Iterator[Start]:
    """Starts a run on one host, and waits until its test runs there."""
    runs: list[PytestRun] = []
    hidden_hosts.write({"test_it.py": TESTS % slept_s})
    for name, value in hidden_hosts.environment().items():
        monkeypatch.setenv(name, value)

    def begin(*arguments: str) -> PytestRun:
        runs.append(PytestRun(hidden_hosts.project, "-s", "--vast-hosts=1", "--vast-gpus=0", *arguments))
        assert runs[-1].until("it is up").strip() == "[gw0 on host 1] it is up"
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def processes(*words: str) -> list[int]:
    """Those whose command line has all of these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if all(any(word in each for each in line) for word in words):
            found.append(int(path.parent.name))
    return found


def wrappers(run: PytestRun) -> list[int]:
    """The wrappers of a run."""
    return [pid for pid in processes("pytest_vastgpu/client/pipe.py") if parent(pid) == run.process.pid]


def parent(pid: int) -> int:
    """The process that has started it; 0 if it has just ended, as those of other tests may."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def gone(*pids: int) -> None:
    until(lambda: [pid for pid in pids if is_running(pid)], lambda running: not running)


@pytest.mark.slow
def test_a_wrapper_that_is_killed_costs_one_more_try_on_a_host_without_what_the_first_has_left(start: Start) -> None:
    run = start()
    (wrapper,) = wrappers(run)
    os.kill(wrapper, signal.SIGKILL)
    assert run.rest() == 0
    assert "1 passed" in run.output
    assert "Traceback" not in run.output


@pytest.mark.slow
def test_a_supervisor_that_is_killed_ends_the_run_without_a_traceback(start: Start, hidden_hosts: HiddenHosts) -> None:
    run = start()
    (wrapper,) = wrappers(run)
    run.kill_supervisor()
    assert run.rest() != 0
    gone(wrapper)
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [(), ("--vast-reuse",)], ids=["given back", "warm"])
def test_a_pytest_that_is_killed_leaves_no_process_on_the_host(
    start: Start, hidden_hosts: HiddenHosts, slept_s: str, reuse: tuple[str, ...]
) -> None:
    run = start(*reuse)
    (wrapper,) = wrappers(run)
    left = until(lambda: processes("sleep", slept_s), bool)  # the system shows it after the start only
    run.kill_controller()
    gone(wrapper, *left)
    if reuse:
        assert alive(hidden_hosts.rent_out())
        again = hidden_hosts.run("--vast-reuse", "-s")
        assert "1 passed" in again.output
        os.kill(run.supervisor, signal.SIGTERM)
