"""The supervisor's child that asks the adapters of installed packages."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.supervisor import judge as judge_module
from pytest_vastgpu.supervisor.callbacks import HookClient
from pytest_vastgpu.supervisor.judge import AdapterProcess
from tests.supervisor.conftest import WITHIN_S

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
Start = Callable[[Callable[[], Any]], AdapterProcess]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts one whose adapters are those that a function gives; all of them are gone afterwards, whatever it does."""
    judges: list[AdapterProcess] = []

    def begin(adapters: Callable[[], Any]) -> AdapterProcess:
        monkeypatch.setattr(judge_module, "adapters", adapters)
        listener = os.open(os.devnull, os.O_RDONLY)
        judges.append(AdapterProcess(HookClient(WITHIN_S, lambda _: None), listener))
        os.close(listener)
        return judges[-1]

    yield begin
    for judge in judges:
        closing = threading.Thread(target=judge.close, daemon=True)
        closing.start()
        closing.join(WITHIN_S)
        assert not closing.is_alive()
        with pytest.raises(ProcessLookupError):
            os.kill(judge.pid, 0)


def test_an_import_that_waits_for_ever_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "LOADS_WITHIN_S", 0.05)
    with pytest.raises(HookFailed, match=r"were not loaded within 0\.05 s"):
        start(signal.pause).offers()


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
        judge = start(curious)
    finally:
        os.dup2(saved, 0)
        for descriptor in (ours, theirs, saved):
            os.close(descriptor)
    with pytest.raises(ConfigurationError, match="read b''"):
        judge.offers()
