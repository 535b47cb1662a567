"""Pytest runs in processes and sessions of their own, to be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.core.ownership import ownership
from tests.support.looks import is_running
from tests.support.looks import until


class PytestRun:
    """A run that was started and can be struck down."""

    def __init__(self, directory: Path, *arguments: str, stdin: bool = False) -> None:
        self._seen: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:randomly", *arguments],
            cwd=directory,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        """What it has said so far."""
        return "".join(self._seen)

    @property
    def directory(self) -> Path:
        """Where its ledger is."""
        (found,) = (path for path in run_directories() if read_ledger(path / FILE).started_by == self.process.pid)
        return found

    @property
    def record(self) -> Record:
        """What its ledger says."""
        return read_ledger(self.directory / FILE)

    def until(self, text: str) -> str:
        """Wait until it says something; the line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"it never said {text!r}:\n{self.output}")

    def rest(self) -> int:
        """Wait until it has ended; its exit code."""
        assert self.process.stdout is not None
        self._seen += self.process.stdout.readlines()
        code = self.process.wait()
        # Where the test fails, pytest shows it: an exit code alone explains nothing.
        sys.stdout.write(f"{self.output}[the run ended with exit code {code}]\n")
        for log in Path.home().glob(".local/state/pytest-vastgpu/runs/*/supervisor.log"):
            sys.stdout.write(log.read_text(encoding="utf-8", errors="replace"))
        return code

    def say(self, text: str) -> None:
        """Type something, where it has a standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.close()

    def kill_guard(self) -> int:
        """Strike down its guard; which it was."""
        pid = self.record.guard
        os.kill(pid, signal.SIGKILL)
        return pid

    @property
    def supervisor(self) -> int:
        """The process that owns what it has rented."""
        return self.record.pid

    def kill_supervisor(self) -> int:
        """Strike its supervisor down; which it was."""
        pid = self.supervisor
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_controller(self) -> None:
        """Strike it down, and wait until the workers have noticed."""
        self.process.kill()
        self.rest()

    def end(self) -> None:
        """See that it is over."""
        self.process.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process.wait()


def run_directories() -> list[Path]:
    """Of every run of this test."""
    return [path.parent for path in Path.home().glob(f".local/state/pytest-vastgpu/runs/*/{FILE}")]


@contextmanager
def ending_once_read(directory: Path, module: ModuleType, reads: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that lives until the module has read a file of it, with the function of that name."""
    read: Callable[[Path], object] = getattr(module, reads)
    with ExitStack() as supervisor:
        supervisor.enter_context(ownership(directory))

        def read_and_end(path: Path) -> object:
            found = read(path)
            supervisor.close()
            return found

        patch.setattr(module, reads, read_and_end)
        yield


def until_over() -> None:
    """Wait until no supervisor owns a run any more: until then it writes, and asks its market."""
    until(lambda: [each for each in run_directories() if is_owned(each)], lambda owned: not owned)


def guards() -> list[int]:
    """Of every run of this test, the last one of each."""
    return list(_guards())


def _guards() -> dict[int, Path]:
    """They and the directories of their runs."""
    return {pid: directory for directory in run_directories() if (pid := read_ledger(directory / FILE).guard)}


def end_guards() -> None:
    """End those of runs that were struck down, once their market has ended: there is nothing left to guard."""
    for guard, directory in _guards().items():
        with contextlib.suppress(OSError):  # it has just ended
            arguments = Path(f"/proc/{guard}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(directory) in arguments:  # else it has ended, and its number is another process's
                os.kill(guard, signal.SIGKILL)


def end_process(pid: int) -> None:
    """Strike a process down, unless it has ended: it may end by itself at any moment."""
    if is_running(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
