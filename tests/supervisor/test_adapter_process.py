"""The supervisor's child that asks the adapters of installed packages."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client.callbacks import adapter_calls
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.supervisor.adapter_process import AdapterProcess
from pytest_vastgpu.supervisor.callbacks import HookClient
from tests.supervisor.conftest import WITHIN_S
from tests.support.debugger import debugged
from tests.support.looks import is_running
from tests.support.looks import until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
Start = Callable[..., AdapterProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one whose adapters are those that a function gives; all of them are gone afterwards, whatever it does."""
    started: list[AdapterProcess] = []

    def begin(adapters: Callable[[], Any], within_s: float = WITHIN_S, answers_s: float = WITHIN_S) -> AdapterProcess:
        listener = os.open(os.devnull, os.O_RDONLY)
        limits = itertools.chain(
            [answers_s], itertools.repeat(max(answers_s, WITHIN_S))
        )  # of one that hangs: the first

        def client() -> HookClient:
            limit = next(limits)
            return HookClient(min(limit, 0.1), lambda _: None, limit)

        started.append(AdapterProcess(client, listener, adapters, within_s))
        os.close(listener)
        return started[-1]

    yield begin
    for each in started:
        closing = threading.Thread(target=each.close, daemon=True)
        closing.start()
        closing.join(WITHIN_S)
        assert not closing.is_alive()
        until(functools.partial(is_child, each.pid), lambda there: not there)


def is_child(pid: int) -> bool:
    """Whether there is such a child of this process, or what is left of one that nobody has waited for."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def test_an_import_that_waits_for_ever_is_told(start: Start) -> None:
    with pytest.raises(HookFailed, match=r"were not loaded within 0\.05 s"):
        start(signal.pause, within_s=0.05).offers()


def test_an_adapter_that_ignores_signals_keeps_the_end_from_nothing(start: Start) -> None:
    def stubborn() -> list[Any]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=signal.pause).start()
        return []

    assert start(stubborn).offers() == []


def test_adapters_cannot_read_what_the_supervisor_is_told(start: Start) -> None:
    def curious() -> list[Any]:
        raise ConfigurationError(f"read {os.read(0, 100)!r}")

    ours, theirs, saved = *os.pipe(), os.dup(0)
    os.write(theirs, b"the key")
    try:
        os.dup2(ours, 0)
        started = start(curious)
    finally:
        os.dup2(saved, 0)
        for descriptor in (ours, theirs, saved):
            os.close(descriptor)
    with pytest.raises(ConfigurationError, match="read b''"):
        started.offers()


# --- processes that die or hang ---------------------------------------------------------------------------------------


class Judge(CommandAdapter):
    """Does to its own process what the name of the workload's image says, unless it has been done."""

    name = "judge"

    def __init__(self, did: Path) -> None:
        self._did = did

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        if workload.image and not self._did.exists():
            self._did.write_text(str(os.getpid()))
            os.kill(os.getpid(), getattr(signal, workload.image))
            threading.Event().wait(WITHIN_S)  # another thread may be the one that takes the signal
        return (Probe(str(os.getpid()), "", 1.0),)


PROBES = adapter_calls()["probes"]


def probed(adapters: AdapterProcess, sign: str) -> int:
    """Ask; which process has answered."""
    (probe,) = adapters.ask("judge", PROBES, Workload("judge", image=sign))
    return int(probe.name)


def probing(adapters: AdapterProcess) -> tuple[threading.Thread, list[Exception]]:
    """Ask in another thread; returns it, and where the error will be that the call raises."""
    errors: list[Exception] = []

    def ask() -> None:
        try:
            probed(adapters, "")
        except Exception as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("sign", ["SIGKILL", "SIGSTOP"])
def test_a_process_that_dies_or_hangs_is_started_again_and_asked_again(start: Start, tmp_path: Path, sign: str) -> None:
    did = tmp_path / "did"
    adapters = start(lambda: [(Judge(did), "")], answers_s=2.0)
    assert [offer.name for offer in adapters.offers()] == ["judge"]
    first = probed(adapters, "")
    assert probed(adapters, sign) not in {first, 0}
    assert int(did.read_text()) == first
    until(lambda: is_running(first), lambda running: not running)
    assert probed(adapters, "") != first


def test_a_process_that_dies_of_each_question_is_told(start: Start) -> None:
    class Kills(Judge):
        def probes(self, workload: Workload) -> tuple[Probe, ...]:
            os.kill(os.getpid(), signal.SIGKILL)
            return ()

    adapters = start(lambda: [(Kills(Path()), "")])
    adapters.offers()
    with pytest.raises(HookFailed, match="has died, and so did the one that was started in its place"):
        probed(adapters, "")


def test_a_restart_that_fails_is_tried_again_by_the_next_call(start: Start, tmp_path: Path) -> None:
    loads = tmp_path / "loads"

    def fail_the_second_time() -> list[Any]:
        with loads.open("a") as file:
            file.write("x")
        if loads.read_text() == "xx":
            os._exit(1)
        return [(Judge(tmp_path / "did"), "")]

    adapters = start(fail_the_second_time, answers_s=2 * WITHIN_S)
    adapters.offers()
    os.kill(probed(adapters, ""), signal.SIGKILL)
    with pytest.raises(HookFailed, match="the process that judges logs has died"):
        probed(adapters, "")
    asking, errors = probing(adapters)
    asking.join(WITHIN_S)
    assert not asking.is_alive()
    assert errors == []
    assert loads.read_text() == "xxx"


def test_a_restart_that_the_end_of_the_run_meets_is_cancelled(start: Start, tmp_path: Path) -> None:
    loads = tmp_path / "loads"

    def hang_the_second_time() -> list[Any]:
        with loads.open("a") as file:
            file.write("x")
        if loads.read_text() == "xx":
            signal.pause()
        return [(Judge(tmp_path / "did"), "")]

    adapters = start(hang_the_second_time)
    adapters.offers()
    os.kill(probed(adapters, ""), signal.SIGKILL)
    asking, errors = probing(adapters)
    until(loads.read_text, lambda text: text == "xx")
    adapters.close()
    asking.join(WITHIN_S)
    assert [type(each) for each in errors] == [Cancelled]


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_no_process_outlives_the_supervisor_whatever_it_hangs_in(tmp_path: Path, sign: signal.Signals) -> None:
    """Here the supervisor is struck down while a module is imported that holds the interpreter for ever."""
    told = tmp_path / "pids"

    def hangs() -> list[Any]:
        with told.open("a") as file:
            file.write(f"{os.getpid()} {os.getppid()}\n")
        ctypes.PyDLL(None).sleep(600)
        return []

    supervisor = os.fork()
    if not supervisor:
        try:
            nothing = os.open(os.devnull, os.O_RDONLY)
            kept = AdapterProcess(lambda: HookClient(WITHIN_S, lambda _: None, WITHIN_S), nothing, hangs)
            while kept.pid:
                signal.pause()
        finally:
            os._exit(1)
    try:
        line = until(lambda: told.read_text() if told.exists() else "", lambda text: text.endswith("\n"))
        worker, keeper = map(int, line.split())
        if sign == signal.SIGSTOP:
            os.kill(worker, signal.SIGSTOP)
    finally:
        os.kill(supervisor, signal.SIGKILL)
        os.waitpid(supervisor, 0)
    until(lambda: is_running(worker) or is_running(keeper), lambda running: not running)


def test_a_keeper_that_is_struck_down_takes_its_process_along(start: Start, tmp_path: Path) -> None:
    adapters = start(lambda: [(Judge(tmp_path / "did"), "")])
    adapters.offers()
    worker = probed(adapters, "")
    os.kill(adapters.pid, signal.SIGKILL)
    until(lambda: is_running(worker), lambda running: not running)
    with pytest.raises(HookFailed, match="has died"):
        probed(adapters, "")


@pytest.mark.slow
def test_a_keeper_that_a_debugger_holds_keeps_no_end_waiting() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    adapters = AdapterProcess(lambda: HookClient(WITHIN_S, lambda _: None, WITHIN_S), nothing, list)
    os.close(nothing)
    closing = threading.Thread(target=adapters.close, daemon=True)
    try:
        with debugged(adapters.pid):
            closing.start()
            closing.join(WITHIN_S)
            assert not closing.is_alive()
    finally:
        adapters.close()
    until(lambda: is_running(adapters.pid), lambda running: not running)
