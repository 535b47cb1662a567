"""A run on hosts, for a blow: at pytest, its supervisor, the program that leads to a host, or the proxy there."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from pytest_vastgpu.client import pipe
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.plugin.on_host import proxy
from tests.behaviour.kills.scene import BOOT_TIMEOUT_S
from tests.behaviour.kills.scene import LEASE_S
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.runs import end_process
from tests.support.runs import guards
from tests.support.runs import run_directories

FLEET = {"market": {"rate_limits": False}, "machines": [{"count": 8, "price_usd_h": 0.2}]}
MOMENTS = ("created instance", "host checked", "ready after", "PASSED", "destroying")
"""What the run says at the moment of the blow."""
VICTIMS = ("controller", "supervisor", "pipe", "proxy")
BLOWS = ("sigkill", "sigint", "double_sigint", "sigterm")
_PROXY = Path(proxy.__file__).name.encode()

SUITE = """
import time, pytest

@pytest.mark.parametrize("n", range(12))
def test_it(n):
    time.sleep(0.3)
"""


class HostKill(NamedTuple):
    """One blow against a run on hosts."""

    when: str
    victim: str
    blow: str

    def __str__(self) -> str:
        return f"{self.when.replace(' ', '_')}-{self.victim}-{self.blow}"


def every() -> list[HostKill]:
    """All blows: a program of ours on the way to a host can only be killed, and where it runs."""
    return [
        HostKill(*each)
        for each in itertools.product(MOMENTS, VICTIMS, BLOWS)
        if each[1] in ("controller", "supervisor") or (each[2] == "sigkill" and each[0] == "PASSED")
    ]


class HostRun:
    """A pytest run on two hosts, in a session of its own."""

    def __init__(self, directory: Path, market: LocalMarket, kill: HostKill) -> None:
        directory.joinpath("test_it.py").write_text(SUITE)
        directory.joinpath("pytest.ini").write_text("[pytest]\n")
        self._market = market
        self._kill = kill
        self._printed = directory / "output"
        with self._printed.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "pytest", "-p", "no:randomly", "-v"),
                    *("--vast-hosts=2", "--vast-workers-per-host=2", "--vast-gpus=0", "--vast-strictness=aggressive"),
                    *(f"--vast-lease={LEASE_S}", f"--vast-boot-timeout={BOOT_TIMEOUT_S}"),
                ],
                cwd=directory,
                env={**os.environ, "VAST_URL": market.url, "VAST_API_KEY": market.api_key},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._printed.read_text(errors="replace")

    def strike(self) -> None:
        """Wait for the moment, and strike."""
        until(lambda: (self._kill.when in self.output, self.process.poll() is not None), any)
        assert self._kill.when in self.output
        for pid in self._victims():
            _blow(pid, self._kill.blow)

    def end(self) -> int:
        """Wait until the run and what it has started have ended; its exit code."""
        until(self.process.poll, lambda code: code is not None)
        until(lambda: [pid for pid in self._others() if is_running(pid)], lambda alive: not alive)
        return self.process.wait()

    def destroy(self) -> None:
        """Leave no process behind, whatever went wrong."""
        for pid in (self.process.pid, *self._others(), *guards()):
            end_process(pid)
        self.process.wait()

    def _victims(self) -> list[int]:
        found = {
            "controller": [self.process.pid],
            "supervisor": self._supervisors(),
            "pipe": _running(str(pipe.__file__).encode(), below=self.process.pid),
            "proxy": _running(b"/on_host/" + _PROXY, below=self._market.pid),
        }
        return found[self._kill.victim][:1]

    def _supervisors(self) -> list[int]:
        from pytest_vastgpu.core.ledger_record import FILE
        from pytest_vastgpu.core.ledger_record import read_ledger

        return [read_ledger(directory / FILE).pid for directory in run_directories()]

    def _others(self) -> list[int]:
        return [*self._supervisors(), *guards(), *_running(str(pipe.__file__).encode(), below=self.process.pid)]


def _running(word: bytes, below: int) -> list[int]:
    """The processes below another with a word in their command lines, the nearest first."""
    found, parents = [], [below]
    while parents:
        children = [int(each) for parent in parents for each in _children(parent)]
        for pid in children:
            with contextlib.suppress(OSError):
                if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        parents = children
    return found


def _children(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return [
            each for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()
        ]
    return []


def _blow(pid: int, blow: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        if blow in ("sigkill", "sigterm"):
            os.kill(pid, signal.SIGKILL if blow == "sigkill" else signal.SIGTERM)
            return
        os.kill(pid, signal.SIGINT)
        if blow == "double_sigint":
            time.sleep(0.3)  # as an impatient person does
            os.kill(pid, signal.SIGINT)
