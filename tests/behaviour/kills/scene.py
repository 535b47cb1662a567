"""A run that rents, a blow against it, and the market as the judge of what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle
from tests.behaviour.conftest import SERVER
from tests.behaviour.kills.matrix import VICTIMS
from tests.behaviour.kills.matrix import Kill
from tests.support.looks import LOOK_S
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.runs import end_process
from tests.support.runs import run_directories
from tests.support.vast import search_offers

LEASE_S = 12
"""A heartbeat every three seconds, on a machine that may stand still for five."""
BOOT_TIMEOUT_S = 20
GONE_WITHIN_S = LEASE_S + BOOT_TIMEOUT_S + 15
"""The longest that anything may live on: nobody is left, and the owner never got in to shorten the first lease."""

FLEET = {
    "market": {"rate_limits": False},
    "machines": [
        {
            "count": 6,
            "price_usd_h": 0.2,
            "stages": {"loading_s": 1.0},
            # So that each state lasts long enough to be hit.
            "faults": [
                {"name": "create_slow", "delay_s": 0.7},
                {"name": "slow_answer", "endpoint": "attach_key", "delay_s": 0.7},
                {"name": "slow_answer", "endpoint": "destroy", "delay_s": 0.7},
            ],
        }
    ],
}

CONFTEST = """
import os, pathlib, pytest
from pytest_vastgpu import command

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        pathlib.Path("workers").mkdir(exist_ok=True)
        pathlib.Path("workers", str(os.getpid())).touch()

@pytest.fixture
def vast_workload():
    return command("sleep 1; exec python3 server.py", files={"server.py": "server.py"}, gpus=1, cuda=12.4)
"""

SUITE = """
import pathlib, time, httpx, pytest

@pytest.mark.parametrize("n", range(4))
def test_it(vast_instance, n):
    assert httpx.get(vast_instance.endpoint, headers=vast_instance.headers, timeout=60).text == "here I am"
    ends = time.monotonic() + 20
    while not pathlib.Path("go").exists() and time.monotonic() < ends:
        time.sleep(0.02)
"""


class Run:
    """A pytest run of its own session, in a directory of its own."""

    def __init__(self, directory: Path, market: LocalMarket, kill: Kill) -> None:
        self._directory = directory
        directory.joinpath("server.py").write_text(SERVER)
        directory.joinpath("conftest.py").write_text(CONFTEST)
        directory.joinpath("test_it.py").write_text(SUITE)
        directory.joinpath("pytest.ini").write_text("[pytest]\n")
        self._kill = kill
        if kill.when == "destroying" or not isinstance(kill.when, str):
            self.go()
        with directory.joinpath("output").open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "pytest", "-p", "no:randomly", "-v", f"-n{kill.workers}"),
                    *(f"--vast-lease={LEASE_S}", f"--vast-boot-timeout={BOOT_TIMEOUT_S}"),
                    "--vast-strictness=aggressive",
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
        return self._directory.joinpath("output").read_text(errors="replace")

    def go(self) -> None:
        """Let the tests end."""
        self._directory.joinpath("go").touch()

    def strike(self) -> bool:
        """Wait for the moment and strike; False where it ended before."""
        if isinstance(self._kill.when, str):
            state = self._kill.when
            struck = self._until(lambda: any(row.get("step") == state for row in self._ledger()))
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self._kill.when)
            struck = self.process.poll() is None
        if struck:
            for pid in self._victims():
                _blow(pid, self._kill.blow)
        self.go()
        return struck

    def end(self) -> None:
        """Wait until the run and all that it started have ended."""
        until(self.process.poll, lambda code: code is not None)
        until(lambda: [pid for pid in self._started() if is_running(pid)], lambda alive: not alive)

    def destroy(self) -> None:
        """Leave no process behind, whatever went wrong."""
        for pid in (self.process.pid, *self._started()):
            end_process(pid)
        self.process.wait()

    def _victims(self) -> list[int]:
        found = {
            "controller": [self.process.pid],
            "worker": sorted(self._workers())[:1],
            "supervisor": self._pids("run")[-1:],
            "guard": self._pids("guard")[-1:],
        }
        return [pid for victim in VICTIMS[self._kill.victim] for pid in found[victim]]

    def _started(self) -> list[int]:
        return [*self._workers(), *self._pids("run"), *self._pids("guard")]

    def _workers(self) -> list[int]:
        folder = self._directory / "workers"
        return [int(path.name) for path in folder.iterdir()] if folder.is_dir() else []

    def _pids(self, step: str) -> list[int]:
        """Of the supervisor (``run``) or the guards, in the order in which they began."""
        return [int(str(row["pid"])) for row in self._ledger() if row.get("step") == step]

    def _ledger(self) -> list[dict[str, Any]]:
        rows = []
        for directory in run_directories():
            for line in (directory / FILE).read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):  # being written
                    rows.append(json.loads(line))
        return rows

    def _until(self, seen: Callable[[], bool]) -> bool:
        return until(lambda: (seen(), self.process.poll() is not None), any)[0]


def _blow(pid: int, blow: str) -> None:
    with contextlib.suppress(ProcessLookupError):  # a random moment may come too late
        if blow == "group_sigterm":
            os.killpg(os.getpgid(pid), signal.SIGTERM)
        elif blow == "sigkill":
            os.kill(pid, signal.SIGKILL)
        elif blow == "sigterm":
            os.kill(pid, signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGINT)
            if blow == "double_sigint":
                time.sleep(0.3)  # as an impatient person does
                os.kill(pid, signal.SIGINT)


def rent_foreign(market: LocalMarket, directory: Path) -> set[int]:
    """Instances that are nobody's business: one without a label of ours, one of another run that is alive."""
    others = (f"vastgpu-0ddba11-1-{int(time.time() + 7200):x}", "training")
    with MarketClient(market.url, market.api_key, Throttle(directory / "throttle", "foreign")) as client:
        offers = search_offers(client, {"rentable": {"eq": True}, "type": "on-demand"})
        return {
            client.create(offer.id, CreateRequest("any/image", 10, label))
            for offer, label in zip(offers, others, strict=False)
        }


def ours_alive(market: LocalMarket, foreign: set[int]) -> list[dict[str, Any]]:
    """What the market says is alive of the run."""
    return [each for each in market.status()["alive"] if each["id"] not in foreign]


def judge(market: LocalMarket, foreign: set[int]) -> None:
    """Nothing left, nothing rented twice, nothing of others touched."""
    for _ in range(int(GONE_WITHIN_S / LOOK_S)):  # no deadline, as in until()
        if not (left := ours_alive(market, foreign)):
            break
        time.sleep(LOOK_S)
    assert not left, "instances were left running"
    status = market.status()
    ours = {
        label: rents
        for label, rents in status["rents_per_label"].items()
        if (parsed := Label.parse(label)) and parsed.run_id != "0ddba11"
    }
    assert len(ours) <= 1, "the workload was rented twice"
    assert set(ours.values()) <= {1}, "a label was rented twice"
    assert {each["id"] for each in status["alive"]} == foreign, "an instance of somebody else was touched"
