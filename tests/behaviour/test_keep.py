"""Instances that are left for a look inside when the run is over, on the local market."""

from __future__ import annotations

import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.test_switch import HERE
from tests.behaviour.test_switch import NO_GPU
from tests.behaviour.test_switch import run_in_use
from tests.behaviour.test_switch import until_destroyed_by
from tests.support.looks import until

FAILS = "def test_it(vast_instance): assert vast_instance.run('echo here > note').exit_code == 1\n"
PASSES = "def test_it(vast_instance): pass\n"


def destroy_kept(market: LocalMarket) -> None:
    """As the summary says."""
    for each in market.status()["alive"]:
        command = [sys.executable, "-m", "pytest_vastgpu", "destroy", str(each["id"])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def check_kept(market: LocalMarket, result: pytest.RunResult) -> None:
    """One instance is kept, and was told of."""
    result.stdout.fnmatch_lines(["vastgpu: KEPT: instance *"])
    assert len(market.status()["alive"]) == 1
    destroy_kept(market)


def test_an_instance_on_which_a_test_failed_stays_and_lets_in_whom_the_summary_tells(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(NO_GPU + FAILS)
    result = pytester.runpytest_inprocess("--vast-keep=failed:1h")
    result.assert_outcomes(failed=1)
    [alive] = market.status()["alive"]
    result.stdout.fnmatch_lines(
        [
            f"vastgpu instance {alive['id']}: kept for a look inside until *:*:* on *",
            f"vastgpu: KEPT: instance {alive['id']} until *:*:* on *, at 0.100 USD/h (0.1000 USD)",
            "vastgpu:   look inside: ssh -i */id -p * root@127.0.0.1",
            f"vastgpu:   end it now:  vastgpu destroy {alive['id']}",
        ]
    )
    found = re.search(r"look inside: ssh (.*)", result.stdout.str())
    assert found
    words = shlex.split(found[1])
    assert stat.S_IMODE(Path(words[1]).stat().st_mode) == 0o600
    trust = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    command = "cat note; n=$(date +%s); echo $(($(cat .vastgpu/lease) - n)) $(($(cat .vastgpu/end) - n))"
    seen = subprocess.run(["ssh", *trust, *words, command], capture_output=True, text=True, check=True)
    note, lease, end = seen.stdout.split()
    assert note == "here"
    assert 3000 < int(lease) <= int(end) <= 3600
    destroy_kept(market)


@pytest.mark.slow
def test_one_whose_bring_up_failed_stays_too(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(NO_GPU.replace("exec python3 server.py", "exit 3") + PASSES)
    result = pytester.runpytest_inprocess("--vast-keep=failed")
    result.assert_outcomes(errors=1)
    check_kept(market, result)


@pytest.mark.slow
def test_one_on_which_all_went_well_stays_only_where_always_is_asked_for(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(NO_GPU + PASSES)
    pytester.runpytest_inprocess("--vast-keep=failed").assert_outcomes(passed=1)
    assert not market.status()["alive"]
    result = pytester.runpytest_inprocess("--vast-keep=always:5s")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["vastgpu: KEPT: instance *"])
    until_destroyed_by(market, "account", "container")


@pytest.mark.slow
def test_without_a_dead_mans_switch_nothing_is_kept(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from({"machines": [{"faults": ["container_key_missing"]}]})
    pytester.makepyfile(WORKLOAD + FAILS)
    result = pytester.runpytest_inprocess("--vast-keep=failed")
    result.stdout.fnmatch_lines(
        [
            "vastgpu instance *: is not kept: nothing would end it, since it has no dead man's switch: the container *",
            "vastgpu: instance * had no dead man's switch: the container has no key of its own (CONTAINER_API_KEY)",
        ]
    )
    result.stdout.no_fnmatch_line("*KEPT*")
    assert not market.status()["alive"]


@pytest.mark.slow
def test_an_instance_of_ones_own_in_a_worker_stays_though_its_test_gives_it_back(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(HERE)
    fails = "def test_it(vast_instance_factory, vast_workload): assert vast_instance_factory(vast_workload) is None\n"
    pytester.makepyfile(NO_GPU + fails)
    result = pytester.runpytest_subprocess("-n1", "-x", "--vast-keep=failed")
    result.assert_outcomes(failed=1)
    check_kept(market, result)


@pytest.mark.slow
def test_an_instance_whose_test_was_the_end_of_its_worker_stays(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(NO_GPU + "import os\ndef test_it(vast_instance): os._exit(1)\n")
    result = pytester.runpytest_subprocess("-n1", "--max-worker-restart=0", "--vast-keep=failed")
    result.assert_outcomes(failed=1)
    check_kept(market, result)


@pytest.mark.slow
def test_a_run_that_is_interrupted_keeps_nothing(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(HERE)
    with run_in_use(pytester, "--vast-keep=always") as (process, _):
        process.send_signal(signal.SIGINT)
        assert until(process.poll, lambda code: code is not None) == pytest.ExitCode.INTERRUPTED
    assert not market.status()["alive"]


@pytest.mark.slow
def test_the_market_of_the_run_itself_can_keep_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(NO_GPU + PASSES)
    result = pytester.runpytest_inprocess("--vast-backend=local", "--vast-keep=failed:2h")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: vastgpu: --vast-keep=failed:2h (command line): the local market of this run ends with it, *; "
            "start one that stays with `vastgpu local` and set VAST_URL and VAST_API_KEY as it says"
        ]
    )
