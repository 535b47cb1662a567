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
from pytest_vastgpu.supervisor.adapter_process import AdapterProcess
from pytest_vastgpu.supervisor.callbacks import HookClient
from tests.supervisor.conftest import WITHIN_S

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
Start = Callable[..., AdapterProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one whose adapters are those that a function gives; all of them are gone afterwards, whatever it does."""
    started: list[AdapterProcess] = []

    def begin(adapters: Callable[[], Any], within_s: float = WITHIN_S) -> AdapterProcess:
        listener = os.open(os.devnull, os.O_RDONLY)
        started.append(AdapterProcess(HookClient(WITHIN_S, lambda _: None), listener, adapters, within_s))
        os.close(listener)
        return started[-1]

    yield begin
    for each in started:
        closing = threading.Thread(target=each.close, daemon=True)
        closing.start()
        closing.join(WITHIN_S)
        assert not closing.is_alive()
        with pytest.raises(ProcessLookupError):
            os.kill(each.pid, 0)


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
