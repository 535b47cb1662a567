from __future__ import annotations

import io
import os
import pdb
import signal
import sys
import warnings
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from contextlib import ExitStack

import pluggy
import pytest

from pytest_vastgpu.plugin.signals import end_like_ctrl_c
from pytest_vastgpu.plugin.signals import with_lines


@pytest.fixture
def handled() -> Iterator[Callable[..., None]]:
    """Handles signals as a run does that rents."""
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGHUP):  # coverage has a handler of its own, which would be left alone
            stack.callback(signal.signal, number, signal.signal(number, signal.SIG_DFL))

        def handle(**how: bool) -> None:
            stack.callback(end_like_ctrl_c(**how))

        yield handle


def _terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class _Person(io.StringIO):
    """Types nothing at the prompt, but ends the process as ``kill`` does. A further prompt is one too many."""

    def readline(self, *_: object) -> str:  # type: ignore[override] # typeshed has that of bytes above this class
        assert not self.closed
        self.close()
        _terminated()
        return "quit\n"


def test_a_signal_ends_a_run_as_ctrl_c_does(handled: Callable[..., None]) -> None:
    handled()
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        _terminated()


class _Reports:
    """Has a hook that takes time, as pytest's report of a test does."""

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        _terminated()


class _ReadsThem:
    """Has a wrapper of the old style, as Hypothesis has for pytest's reports."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_unconfigure(self) -> Generator[None, pluggy.Result[object], None]:
        (yield).get_result()


def test_a_signal_ends_a_run_that_is_within_a_hook_where_warnings_are_errors(handled: Callable[..., None]) -> None:
    hooks = pytest.PytestPluginManager()
    hooks.register(_Reports())
    hooks.register(_ReadsThem())
    handled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            hooks.hook.pytest_unconfigure(config=None)


def test_a_signal_ends_a_run_that_waits_at_a_debuggers_prompt(handled: Callable[..., None]) -> None:
    handled()
    with pytest.raises(pytest.exit.Exception, match="SIGTERM"):
        pdb.Pdb(stdin=_Person(), stdout=io.StringIO(), nosigint=True, readrc=False).runcall(_interrupted)


def test_a_signal_ends_a_run_in_which_a_debugger_takes_a_step(handled: Callable[..., None]) -> None:
    handled()
    shown = io.StringIO()
    before = sys.gettrace()
    try:
        with pytest.raises(pytest.exit.Exception, match="SIGTERM"):
            pdb.Pdb(stdin=io.StringIO("next\nnext\n"), stdout=shown, nosigint=True, readrc=False).runcall(_terminated)
    finally:
        sys.settrace(before)
    assert shown.getvalue().count("(Pdb)") == 1, "no prompt at the exception"


def test_a_signal_is_no_exception_on_which_pytest_enters_a_debugger(handled: Callable[..., None]) -> None:
    handled(debugs=True)
    with pytest.raises(pytest.exit.Exception, match="SIGTERM"):
        _terminated()


def _interrupted() -> None:
    raise KeyboardInterrupt("SIGHUP")


def test_pytest_can_show_an_interrupt_at_an_instruction_that_belongs_to_no_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = _interrupted.__code__
    no_lines = bytes([0b1_1111_000]) * (len(code.co_code) // 2)  # for each unit: "has no location"
    monkeypatch.setattr(_interrupted, "__code__", code.replace(co_linetable=no_lines))
    with pytest.raises(KeyboardInterrupt) as interrupt:
        _interrupted()
    lines = [entry.lineno for entry in interrupt.traceback[:-1]]
    with_lines(interrupt)
    shown = str(interrupt.getrepr(funcargs=True))
    assert "KeyboardInterrupt: SIGHUP" in shown
    assert "_interrupted" in shown
    assert [entry.lineno for entry in interrupt.traceback[:-1]] == lines, "those that have one keep it"
