"""What takes time with hosts, with hosts that are this machine: what is told of it, and in which order."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.plugin.on_host import pipes
from pytest_vastgpu.plugin.on_host import proxy
from pytest_vastgpu.plugin.on_host.fleet import Fleet
from pytest_vastgpu.plugin.on_host.places import BEGAN
from tests.support.looks import PATIENCE_S
from tests.support.looks import until


class Leases:
    """The supervisor: it has a host for every place."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.calls: list[tuple[str, ...]] = []
        self.commands: list[str] = []
        self.on_finished: Callable[[], None] = lambda: None
        self.on_acquire: Callable[[], None] = lambda: None

    def done(self, name: str) -> None:
        self.calls.append(("done", name))

    def acquire(self, name: str, workload: object, exclusive: bool) -> Any:
        self.on_acquire()
        self.calls.append(("acquire", name))
        return SimpleNamespace(label=name, mark=None)

    def run(self, label: str, command: str, timeout_s: float, stdin: str) -> Any:
        self.commands.append(command)
        about = {"python": self.python, "version": "3", "implementation": "", "work": "/", "plugins": {}}
        return SimpleNamespace(stdout=json.dumps(about))

    def fate(self, label: str, mark: object) -> None:
        return None

    def finished(self, name: str) -> None:
        self.on_finished()
        self.calls.append(("finished", name))


class Run:
    """A fleet, and what it says."""

    def __init__(self, python: str = sys.executable, **limits: float) -> None:
        self.leases = Leases(python)
        self.events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.told: queue.Queue[str] = queue.Queue()
        listener: Any = SimpleNamespace(address=None)
        leases: Any = self.leases
        wanted: Any = {"host 1": None}
        limit = Timeouts(**limits)  # type: ignore[arg-type] # all are seconds
        self.fleet = Fleet(leases, listener, wanted, 1, self.events.put, self.told.put, limit)

    def event(self, name: str) -> dict[str, Any]:
        """The next event."""
        found, given = self.events.get(timeout=PATIENCE_S)
        assert found == name, given
        return given


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begins one. Its proxies are started without a way through a supervisor, with the Python of each host."""
    begun: list[Run] = []
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(pipes, "to_proxy", lambda host, *_: shlex.join([host.python, str(proxy.__file__)]))

    def begin(python: str = sys.executable, **limits: float) -> Run:
        begun.append(Run(python, **limits))
        return begun[-1]

    yield begin
    for run in begun:
        run.fleet.end()
        run.fleet.remove()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Pythons that hang: all of them, or those of workers."""
    fifo = tmp_path / "never"
    os.mkfifo(fifo)

    def make(which: str) -> str:
        python = tmp_path / f"python-{which}"
        test = "true" if which == "all" else 'test -n "$VASTGPU_WORKER"'
        python.write_text(f'#!/bin/sh\nif {test}; then read -r line < {fifo}; exit; fi\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return str(python)

    yield make
    with contextlib.suppress(OSError):  # nobody reads
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def test_whatever_goes_wrong_in_a_thread_comes_to_the_run(runs: Callable[..., Run], monkeypatch: Any) -> None:
    run = runs()

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipes, "to_proxy", full)
    run.fleet.rent("host 1")
    assert str(run.event("broken")["error"]) == "[Errno 28] No space left on device"


def test_whatever_goes_wrong_when_a_worker_starts_comes_to_the_run(runs: Callable[..., Run], monkeypatch: Any) -> None:
    run = runs()

    def wrong(*_: object) -> str:
        raise LookupError("a defect")

    monkeypatch.setattr(pipes, "to_worker", wrong)
    run.fleet.rent("host 1")
    assert str(run.event("broken")["error"]) == "a defect"


@pytest.mark.parametrize("which", ["all", "workers"])
def test_a_python_that_hangs_at_its_start_is_told_and_given_up(
    which: str, runs: Callable[..., Run], hanging: Callable[[str], str]
) -> None:
    python = hanging(which)
    run = runs(python, host_python_s=0.5, host_python_told_s=0.0)
    run.fleet.rent("host 1")
    assert run.told.get(timeout=PATIENCE_S) == f"host 1: waits for {python} to start there, at most 0 s"
    failed = run.event("hostfailed")
    assert str(failed["error"]) == f"{python} does not start there: it has said nothing for 0 s"


def test_a_host_whose_python_does_not_start_is_given_back_once_though_the_run_ends_at_once(
    runs: Callable[..., Run], hanging: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs(hanging("all"), host_python_s=0.5)
    ended = threading.Event()

    def put(event: tuple[str, dict[str, Any]]) -> None:
        run.events.put(event)
        ended.wait(PATIENCE_S)

    monkeypatch.setattr(run.fleet, "_put", put)
    run.fleet.rent("host 1")
    run.event("hostfailed")
    run.fleet.end()
    ended.set()
    until(lambda: [each.name for each in threading.enumerate()], lambda names: "vastgpu-host" not in names)
    assert run.leases.calls.count(("finished", "host 1")) == 1


def test_nothing_is_told_of_a_python_that_starts(runs: Callable[..., Run]) -> None:
    run = runs()
    run.fleet.rent("host 1")
    run.event("hostready")
    assert run.told.empty()


def test_what_is_asked_for_comes_before_a_host_is_given_back_to_which_the_connection_is_lost(
    runs: Callable[..., Run],
) -> None:
    run = runs()
    run.fleet.before_giving_back.append(lambda rented: run.leases.calls.append(("fetched", rented.name)))
    run.fleet.rent("host 1")
    rented = run.event("hostready")["rented"]
    run.fleet.forget(rented)
    run.fleet.leave(rented)
    run.fleet.end()  # waits for what is under way
    assert run.leases.calls[2:] == [("fetched", "host 1"), ("finished", "host 1")]


def test_a_host_whose_place_is_asked_for_again_meanwhile_is_not_given_back(runs: Callable[..., Run]) -> None:
    run = runs()
    fetched = threading.Event()

    def fetch(_: object) -> None:
        fetched.wait(PATIENCE_S)

    run.fleet.before_giving_back.append(fetch)
    run.fleet.rent("host 1")
    rented = run.event("hostready")["rented"]
    run.fleet.forget(rented)
    run.fleet.leave(rented)
    run.fleet.rent("host 1")
    run.fleet.forget(run.event("hostready")["rented"])
    fetched.set()
    run.fleet.end()  # waits for what is under way
    assert run.leases.calls == [("done", "host 1"), ("acquire", "host 1")] * 2


def test_a_place_is_not_asked_for_again_while_it_is_made_free(runs: Callable[..., Run]) -> None:
    run = runs()
    finishing, acquired = threading.Event(), threading.Event()

    def finishes() -> None:
        finishing.set()
        acquired.wait(0.1)  # the other one had the time to be wrong

    run.fleet.rent("host 1")
    rented = run.event("hostready")["rented"]
    run.leases.on_finished, run.leases.on_acquire = finishes, acquired.set
    run.fleet.forget(rented)
    run.fleet.leave(rented)
    assert finishing.wait(PATIENCE_S)
    run.fleet.rent("host 1")
    run.fleet.forget(run.event("hostready")["rented"])
    assert [name for name, _ in run.leases.calls] == ["done", "acquire", "finished", "done", "acquire"]


def test_what_tests_of_earlier_runs_have_left_on_a_warm_host_is_removed_once(
    runs: Callable[..., Run], tmp_path: Path
) -> None:
    work = tmp_path / ".vastgpu" / "work"
    for name in ("tmp/gw0/test_it0/file", f"{BEGAN}1", "about.json", "project/test_it.py"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("said")

    def first_words() -> str:
        run.fleet.rent("host 1")
        run.fleet.forget(run.event("hostready")["rented"])
        return subprocess.run(
            ["sh", "-c", run.leases.commands[-1]], cwd=tmp_path, capture_output=True, text=True
        ).stdout

    run = runs()
    assert first_words() == "said"
    assert {path.name for path in work.iterdir()} == {"about.json", "project"}
    (work / "tmp").mkdir()  # of this run
    assert first_words() == "said"
    assert {path.name for path in work.iterdir()} == {"about.json", "project", "tmp"}
