"""Handles signals that end a run, so that the run still gives back what it has rented.

pytest handles Ctrl-C and nothing else. SIGTERM (a cancelled job, a stopped container) and SIGHUP (a closed terminal, a
lost SSH session) would end the process on the spot.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def end_like_ctrl_c() -> Callable[[], None]:
    """Make SIGTERM and SIGHUP end the run as Ctrl-C does, unless other code handles or ignores (``nohup``) them.

    :returns: A function that restores the old handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    ours = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, interrupt)

    def undo() -> None:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)

    return undo


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
