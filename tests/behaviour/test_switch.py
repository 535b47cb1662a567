"""The dead man's switch alone: whoever else should end an instance is dead, hangs, or was never there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.vast.client import self_destruct
from pytest_vastgpu.supervisor.rental.deadman import onstart
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import record_of
from tests.support.local.api import Api
from tests.support.looks import until

HERE = {"this_machine": True}
MAY_NOT_LOOK = {"name": "not_authorized", "caller": "container", "endpoint": "show"}
NO_GPU = WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0")
IN_USE = """
import pathlib, time
def test_it(vast_instance):
    pathlib.Path("in_use").touch()
    time.sleep(600)
"""


ASLEEP = """
import pathlib, time
def test_it(vast_instance):
    pathlib.Path("in_use").touch()
    while not pathlib.Path("awake").exists():
        time.sleep(0.05)
    httpx.get(vast_instance.endpoint)
"""


@contextmanager
def run_in_use(
    pytester: pytest.Pytester, *options: str, test: str = IN_USE
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A run whose test uses its instance; by itself it does not end. And the file with what it prints."""
    pytester.makepyfile(NO_GPU + test)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    in_use, printed = pytester.path / "in_use", pytester.path / "printed"
    with (
        printed.open("wb") as output,
        subprocess.Popen(command, cwd=pytester.path, stdout=output, start_new_session=True) as process,
    ):
        try:
            until(lambda: in_use.exists() or process.poll() is not None, bool)
            assert in_use.exists(), f"the run ended with {process.returncode}"
            yield process, printed
        finally:
            process.kill()


def ledger(home: Path) -> list[dict[str, Any]]:
    [path] = home.glob(".local/state/pytest-vastgpu/runs/*/ledger.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def supervisor_of(home: Path) -> int:
    """The process that owns what the run has rented."""
    (pid,) = [int(row["pid"]) for row in ledger(home) if row["step"] == "run"]
    return pid


def destroyed_by(market: LocalMarket) -> list[str]:
    """Who called for instances to be destroyed."""
    return [call["key"] for call in market.status()["calls"] if call["endpoint"] == "destroy"]


def until_destroyed_by(market: LocalMarket, *callers: str) -> None:
    """Wait until nothing is alive and these, nobody else, were told so: a call is counted when it is answered."""
    until(lambda: market.status()["alive"], lambda alive: not alive)
    until(lambda: destroyed_by(market), lambda seen: seen == list(callers))


@pytest.mark.parametrize("faults", [[], pytest.param([MAY_NOT_LOOK], marks=pytest.mark.slow)])
def test_an_instance_ends_itself_when_everybody_else_is_dead(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path, faults: list[Any]
) -> None:
    market = rent_from({"faults": faults, **HERE})
    with run_in_use(pytester, "--vast-lease=10") as (controller, _):
        owners = [row["pid"] for row in ledger(home) if row["step"] in {"guard", "run"}]
        for pid in [*reversed(owners), controller.pid]:
            os.kill(pid, signal.SIGKILL)
        until_destroyed_by(market, "container")


@pytest.mark.slow
def test_an_instance_ends_itself_at_its_hard_end_while_its_owner_hangs(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    market = rent_from(HERE)
    with run_in_use(pytester, "--vast-max-lifetime=15"):
        supervisor = supervisor_of(home)
        os.kill(supervisor, signal.SIGSTOP)
        until_destroyed_by(market, "container")
        os.kill(supervisor, signal.SIGKILL)


@pytest.mark.slow
def test_where_the_owner_slept_for_longer_than_the_lease_no_machine_is_blamed(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, home: Path
) -> None:
    market = rent_from(HERE)
    with run_in_use(pytester, "--vast-lease=10", test=ASLEEP) as (controller, printed):
        supervisor = supervisor_of(home)
        os.kill(supervisor, signal.SIGSTOP)
        until(lambda: market.status()["alive"], lambda alive: not alive)
        (pytester.path / "awake").touch()
        os.kill(supervisor, signal.SIGCONT)
        assert until(controller.poll, lambda code: code is not None) == pytest.ExitCode.TESTS_FAILED
        output = printed.read_text()
    assert "container" in destroyed_by(market)  # and the owner, who woke up, sees to it that it is gone
    assert "own_fault: lease_over" in output
    assert "has not heard of us for" in output
    assert record_of(host_cache, 1).infra_failures == 0


@pytest.mark.slow
def test_heartbeats_keep_an_instance_alive_for_longer_than_its_lease(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(NO_GPU + "import time\ndef test_it(vast_instance):\n    time.sleep(14)")
    pytester.runpytest_subprocess("--vast-lease=10").assert_outcomes(passed=1)
    assert destroyed_by(market) == ["account"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("container_key_missing", "the container has no key of its own (CONTAINER_API_KEY)"),
        pytest.param("onstart_never_runs", "its start script has not been run", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_without_it_and_says_so(
    pytester: pytest.Pytester, rent_from: RentFrom, fault: str, why: str
) -> None:
    rent_from({"machines": [{"faults": [fault]}]})
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"vastgpu instance *: NO dead man's switch: {why}; *"])


@pytest.mark.slow
def test_it_is_armed_again_when_the_container_starts_again() -> None:
    with LocalMarket(fleet={"market": {"rate_limits": False}, **HERE}) as market, Api(market) as api:
        script = onstart(self_destruct(market.url), lease_s=5, boot_timeout_s=600, lifetime_s=12)
        instance_id = api.rent(1, onstart=script, runtype="ssh_direct")
        api.becomes(instance_id, actual_status="running")
        api.change(instance_id, state="stopped")
        api.becomes(instance_id, actual_status="exited")
        api.change(instance_id, state="running")
        until_destroyed_by(market, "container")
        [ended] = market.status()["ended"]
        assert [change["state"] for change in ended["states"]].count("running") == 2
