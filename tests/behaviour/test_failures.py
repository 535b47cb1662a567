"""A market whose cheapest machine fails: what people are told, and what must never happen."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.providers.market_name import market_name
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome
from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import LOSE
from tests.behaviour.conftest import USERS_CACHE
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import TimeLimits
from tests.behaviour.conftest import fleet
from tests.behaviour.conftest import loses_one
from tests.behaviour.conftest import record_of

TEST = """
def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
    assert vast_instance.offer.machine_id == 102
"""


@pytest.mark.slow
def test_a_real_machine_that_was_banned_is_not_rented_by_the_next_run(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    market = rent_from({"this_machine": True, "machines": [{"machine_id": GOOD, "price_usd_h": 0.4}]})
    pytester.makepyfile(WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0") + "def test_it(vast_instance): pass")
    pytester.runpytest_inprocess(AGGRESSIVE).assert_outcomes(passed=1)
    users = HostCache(home / USERS_CACHE, market=market.url)
    assert set(users.contents().markets) == {market.url}
    assert users.read().machines[1].successes == 1
    users.record(Outcome("bad", time.time(), 1, FailureClass.INFRA_FATAL))
    pytester.runpytest_inprocess(AGGRESSIVE).assert_outcomes(passed=1)
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [1, GOOD]


@pytest.mark.slow
def test_a_drill_on_simulated_machines_leaves_the_users_cache_alone(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    users = HostCache(home / USERS_CACHE)
    users.ban(GOOD, until=math.inf, since=1.0)  # a machine of that number at Vast.ai
    before = users.path.read_bytes()
    market = rent_from(fleet("oci_runtime_failed"))
    pytester.makepyfile(WORKLOAD + TEST + TEST.replace("test_it", "test_other"))
    for _ in range(2):
        pytester.runpytest_inprocess(AGGRESSIVE).assert_outcomes(passed=2)
    # Within a run the bad machine is avoided; the next run knows nothing of it.
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD, GOOD, BAD, GOOD]
    assert users.path.read_bytes() == before


@pytest.mark.slow
def test_a_machine_that_a_person_banned_on_this_market_is_not_rented(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    market = rent_from(fleet())
    HostCache(home / USERS_CACHE, market=market_name(market.url)).ban(BAD, until=math.inf, since=1.0)
    pytester.makepyfile(WORKLOAD + TEST)
    pytester.runpytest_inprocess(AGGRESSIVE).assert_outcomes(passed=1)
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [GOOD]


def test_workload_fatal_stops_and_blames_nobody(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from(fleet("image_manifest_unknown"))
    pytester.makepyfile(WORKLOAD + TEST + TEST.replace("test_it", "test_other"))
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "*no instance became ready for command 'exec python3 server.py' (1 attempt)",
            "*1. machine 101 (RTX 4090, 0.20 USD/h): failed while booting: workload_fatal: *",
            "*manifest*",
            "*whose fault: the workload's: the next host would fail the same, so no other was tried",
            "*what to do: *",
            "*not rented again in this run: *(the whole story: *test_it)",
        ]
    )
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD]
    assert record_of(host_cache, BAD).infra_failures == 0


@pytest.mark.slow
def test_a_server_that_says_why_it_ends_stops_the_run_with_its_last_words(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from(fleet())
    pytester.path.joinpath("server.py").write_text(
        "import sys; print('loading'); sys.exit('ModuleNotFoundError: No module named \\'vllm_plugin\\'')"
    )
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*failed while warming: workload_fatal: *", "*| loading", "*| ModuleNotFoundError: *"])
    assert len(market.status()["ended"]) == 1
    assert record_of(host_cache, BAD).infra_failures == 0


@pytest.mark.slow
def test_the_evidence_outlives_the_host_without_its_secrets(
    pytester: pytest.Pytester, rent_from: RentFrom, time_limits: TimeLimits
) -> None:
    time_limits.change(evidence_s=120.0)
    rent_from(fleet("libcuda_missing"))
    pytester.path.joinpath("server.py").write_text(
        "import os, sys; print('my token is', os.environ['HF_TOKEN'], flush=True)\n"
        "sys.exit('ModuleNotFoundError: No module named \\'vllm_plugin\\'')"
    )
    pytester.makepyfile(WORKLOAD.replace("gpus=1", "gpus=1, env={'HF_TOKEN': 'v3ry-s3cr3t'}") + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    first, second = sorted(pytester.path.joinpath("vast-artifacts").glob("*/*"))
    result.stdout.fnmatch_lines([f"*kept in: {first}", f"*kept in: {second}", "*| my token is <HF_TOKEN>"])
    assert {path.name for path in second.iterdir()} >= {
        "verdict.json",
        "sold-and-found.json",
        "timeline.jsonl",
        "server.log",
        "nvidia-smi.txt",
        "ps.txt",
        "ss.txt",
        "df.txt",
        "free.txt",
    }
    assert json.loads(first.joinpath("verdict.json").read_text())["verdict"]["reason"] == "libcuda_missing"
    hosts = json.loads(first.joinpath("sold-and-found.json").read_text())
    assert (hosts["sold"]["machine_id"], hosts["found"]["libcuda"]) == (BAD, False)
    assert second.joinpath("server.log").read_text().splitlines()[0] == "my token is <HF_TOKEN>"
    told = [json.loads(line)["state"] for line in second.joinpath("timeline.jsonl").read_text().splitlines()]
    assert told[0] == "intended"
    assert told[-1] == "failed"
    everything = "".join(path.read_text() for path in (*first.iterdir(), *second.iterdir()))
    assert "v3ry-s3cr3t" not in everything + result.stdout.str()
    assert os.environ["VAST_API_KEY"] not in everything


@pytest.mark.slow
def test_an_unexplained_end_is_tried_on_one_other_machine(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from(fleet())
    pytester.path.joinpath("server.py").write_text("import sys; sys.exit(9)")
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*(2 attempts)", "*unknown: server_exited", "*unknown: server_exited"])
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD, GOOD]
    assert record_of(host_cache, BAD).banned_until == 0


@pytest.mark.slow
def test_why_no_other_offer_is_tried_belongs_to_the_story(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"machines": [{"machine_id": BAD}]})
    pytester.path.joinpath("server.py").write_text("import sys; sys.exit(9)")
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.stdout.fnmatch_lines(
        [
            "  no other offer is tried: there is none: the only machine has failed in this run already",
            "    the only offer:",
            "      1 by failed_before: a machine that has not failed in this run is wanted",
        ],
        consecutive=True,
    )


@pytest.mark.slow
def test_a_hook_that_leaves_no_offer_is_told_with_a_remedy(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(fleet())
    pytester.makeconftest("def pytest_vastgpu_modify_offers(offers, workload): offers.clear()")
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.stdout.fnmatch_lines(["pytest_vastgpu_modify_offers * has left none of the offers *; have it leave some, *"])
    assert market.status()["ended"] == []


@pytest.mark.slow
def test_running_out_of_warm_up_is_weak_evidence(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    rent_from(fleet())
    pytester.path.joinpath("server.py").write_text("import time; time.sleep(60)")
    pytester.makepyfile(WORKLOAD.replace("cuda=12.4", "warmup_s=0.5") + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "--vast-attempts=2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*warmup: warmup_timeout", "*whose fault: nobody's*"])
    assert record_of(host_cache, BAD).banned_until == 0
    assert record_of(host_cache, GOOD).banned_until == 0


@pytest.mark.parametrize("more", [[], pytest.param(["-n1"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_an_instance_lost_in_use_is_an_error_and_the_next_test_gets_another(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, more: list[str]
) -> None:
    rent_from(fleet())
    pytester.makepyfile(loses_one("instance_vanishes"))
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly", "--junitxml=junit.xml", *more)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*the instance was lost while the test used it: runtime_lost: instance_lost",
            "101 *runtime_lost: *",
            "102 * ready",
        ]
    )
    junit = pytester.path.joinpath("junit.xml").read_text()
    assert 'errors="1"' in junit
    assert 'failures="0"' in junit
    bad = record_of(host_cache, BAD)
    assert 0 < bad.infra_failures < 1
    assert bad.banned_until == 0


@pytest.mark.parametrize("more", [[], pytest.param(["-n1"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
@pytest.mark.slow
def test_machines_that_all_fail_can_skip_the_tests(
    pytester: pytest.Pytester, rent_from: RentFrom, more: list[str]
) -> None:
    bad = {"price_usd_h": 0.2, "faults": ["nvidia_smi_fails"]}
    rent_from({"machines": [{"machine_id": number, **bad} for number in (BAD, GOOD)]})
    pytester.makepyfile(WORKLOAD + TEST + TEST.replace("test_it", "test_other"))
    result = pytester.runpytest_inprocess("--vast-on-infra-failure=skip", "-rs", *more)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*no instance became ready*(2 attempts)*"])


@pytest.mark.slow
def test_a_workload_that_fails_is_never_skipped(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from(fleet("image_manifest_unknown"))
    pytester.makepyfile(WORKLOAD + TEST)
    pytester.runpytest_inprocess("--vast-on-infra-failure=skip", AGGRESSIVE).assert_outcomes(errors=1)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["-n1"]], ids=["alone", "xdist"])
def test_an_instance_lost_in_use_can_skip_its_test_but_not_hide_a_failure(
    pytester: pytest.Pytester, rent_from: RentFrom, more: list[str]
) -> None:
    rent_from(fleet())
    pytester.makepyfile(
        WORKLOAD
        + LOSE
        + """
def test_1_fails_by_itself(vast_instance):
    assert 1 == 2

def test_2_loses_it(vast_instance):
    lose(vast_instance, "instance_vanishes")
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly", "--vast-on-infra-failure=skip", "-rs", *more)
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*the instance was lost while the test used it*"])


@pytest.mark.slow
def test_a_silent_market_excuses_a_machine_that_cannot_be_reached(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, time_limits: TimeLimits
) -> None:
    time_limits.change(black_hole_s=0.5, connect_s=0.5)
    silent = {"name": "unavailable", "endpoint": "account", "after": 1, "times": 99}
    market = rent_from({"faults": [silent], **fleet("ssh_black_hole")})
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*own_fault: market_silent_too", "*whose fault: our own side's*"])
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD]
    assert record_of(host_cache, BAD) == MachineRecord(BAD)


def test_a_test_that_fails_by_itself_stays_a_failure(
    pytester: pytest.Pytester, rent_from: RentFrom, time_limits: TimeLimits
) -> None:
    time_limits.change(evidence_s=120.0)
    rent_from(fleet())
    pytester.makepyfile(
        WORKLOAD
        + """
def test_1(vast_instance):
    vast_instance.run("echo asked >> ~/.vastgpu/server.log")
    assert 1 == 2

def test_2_closes_its_own(vast_instance_factory, vast_workload):
    vast_instance_factory(vast_workload).close()
    assert 3 == 4
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*assert 3 == 4"])
    assert "lifetime_over" not in result.stdout.str()
    log = "*vastgpu server log (since the test got the instance)*"
    result.stdout.fnmatch_lines(["*assert 1 == 2", "*vastgpu instance*", log])
    result.stdout.fnmatch_lines(
        [log, "asked", "[[]all of it, from the server's start on: */vast-artifacts/*/server.log]"], consecutive=True
    )
    result.stdout.fnmatch_lines(["[[]it has printed nothing since]"])  # that of the instance that was given back
    kept = {path.parent.name: path.read_text() for path in pytester.path.glob("vast-artifacts/*/*/server.log")}
    assert sorted(kept.values()) == ["serving\n", "serving\nasked\n"]
    looked_at = {path.parent.name for path in pytester.path.glob("vast-artifacts/*/*/ps.txt")}
    assert [kept[number] for number in looked_at] == ["serving\nasked\n"]


@pytest.mark.slow
def test_nothing_admitted_says_what_removed_how_many_and_what_would_help(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from(fleet())
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess("--vast-max-price=0.1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["no offers: --vast-max-price=0.21 would admit machine 101 *", "*2 by price: *"])


def test_the_budget_is_never_passed(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess("--vast-budget=0.3")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*renting once more could cost 0.*more than --vast-budget 0.3 USD*"])
    assert market.status()["ended"] == []
