"""Handles signals that end a run, so that the run still gives back what it has rented.

pytest handles Ctrl-C and nothing else. SIGTERM (a cancelled job, a stopped container) and SIGHUP (a closed terminal, a
lost SSH session) would end the process on the spot.
"""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from types import TracebackType

import pytest
from pluggy import PluggyTeardownRaisedWarning

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def end_like_ctrl_c(*, debugs: bool = False) -> Callable[[], None]:
    """Make SIGTERM and SIGHUP end the run as Ctrl-C does, unless other code handles or ignores (``nohup``) them.

    At a debugger's prompt Ctrl-C only leads back to the prompt; there, the run ends as by the debugger's own ``quit``.

    :param debugs: Whether pytest enters a debugger on any exception, which includes that of Ctrl-C (``--pdb``).
    :returns: A function that restores the old handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def interrupt(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        # pluggy warns where an exception passes a hook wrapper of the old style. As an error, that warning would take
        # the exception's place: an internal error for a signal that arrives while such a hook is at work.
        warnings.simplefilter("ignore", PluggyTeardownRaisedWarning)
        if debugs or _in_debugger(frame):
            raise pytest.exit.Exception(name)
        raise KeyboardInterrupt(name)  # unlike the other one, no `except Exception` of a test catches it

    ours = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, interrupt)

    def undo() -> None:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)

    return undo


def _in_debugger(frame: FrameType | None) -> bool:
    """Whether a debugger (pdb, or one made from it) waits for a command, or would stop at an exception in this code."""
    if (bdb := sys.modules.get("bdb")) is None:
        return False
    if issubclass(type(getattr(sys.gettrace(), "__self__", None)), bdb.Bdb):
        sys.settrace(None)  # a step is under way: the debugger would show its prompt at the exception
        return True
    while frame is not None:
        if issubclass(type(frame.f_locals.get("self")), bdb.Bdb):
            return True
        frame = frame.f_back
    return False


def with_lines(interrupt: pytest.ExceptionInfo[BaseException]) -> None:
    """Give each entry of a traceback a line, since pytest cannot show one without: it would end with a ``TypeError``.

    A signal may arrive at an instruction that belongs to no line: Python 3.11 has them at the end of some loops.
    """
    entries = []
    entry: TracebackType | None = interrupt.tb
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    whole = None
    for each in reversed(entries):
        line: int | None = each.tb_lineno
        code = each.tb_frame.f_code
        whole = TracebackType(whole, each.tb_frame, each.tb_lasti, code.co_firstlineno if line is None else line)
    if whole is not None:
        interrupt.traceback = type(interrupt.traceback)(whole)


@contextmanager
def not_interrupted(answer: Callable[[], None]) -> Iterator[None]:
    """Within this block another Ctrl-C (or SIGTERM, SIGHUP) calls ``answer`` and changes nothing else.

    The block must end within a bounded time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        answer()

    handlers = {
        number: signal.signal(number, handle)
        for number in (signal.SIGINT, *_ENDING)
        if callable(signal.getsignal(number))  # not a signal that other code ignores
    }
    try:
        yield
    finally:
        for number, before in handlers.items():
            signal.signal(number, before)
