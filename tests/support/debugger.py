"""A debugger that holds a process: once killed, that stays a zombie until the debugger lets it go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PTRACE_SEIZE = 0x4206
"""Traces a process without stopping it; on Linux only."""
_PROGRAM = f"""
import ctypes, signal, sys
print(ctypes.CDLL(None).ptrace({PTRACE_SEIZE}, int(sys.argv[1]), None, None), flush=True)
signal.pause()
"""


@contextmanager
def debugged(pid: int) -> Iterator[None]:
    """Hold a process for the time of a ``with`` block. Skips the test where this system allows nobody to."""
    if sys.platform != "linux":
        pytest.skip("only Linux has it")
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as debugger:
        try:
            assert debugger.stdout is not None
            if debugger.stdout.readline().strip() != "0":
                pytest.skip("this system lets nobody trace a process that is not its child")
            yield
        finally:
            debugger.kill()
