"""Every fault of the local market that concerns a start or the use of an instance: verdict, blame, next step, outcome.

The cheapest machine has the fault, the dearer one has none. Waiting is cut short where a fault lasts for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.faults.catalogue import catalogue
from pytest_vastgpu.model import MachineRecord
from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import TimeLimits
from tests.behaviour.conftest import fleet
from tests.behaviour.conftest import loses_one
from tests.behaviour.conftest import record_of

slow = pytest.mark.slow
TELLING = {"create_lost", "destroy_lies"}
"""One start for each class and for the market's worst manners; the others are the slow suite."""
OUR_SERVER = {"program": "python3", "argument": "server.py"}
READY = ""
STARTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    # (fault, its parameters, verdict; READY where it must not cost the machine anything)
    ("trailing_newlines", {}, READY),
    ("oci_runtime_failed", {}, "infra_fatal: cdi_device_unresolvable"),
    ("nvidia_container_cli", {}, "infra_fatal: "),
    ("invalid_runtime", {}, "infra_fatal: "),
    ("gpu_error", {}, "infra_fatal: "),
    ("image_manifest_unknown", {}, "workload_fatal: "),
    ("image_not_found", {}, "workload_fatal: "),
    ("image_denied", {}, "workload_fatal: "),
    ("image_unauthorized", {}, "workload_fatal: "),
    ("image_private", {}, "workload_fatal: image_pull_denied"),
    ("pull_stalls", {}, "unknown: boot_timeout"),
    ("registry_rate_limit", {}, "infra_fatal: "),
    ("registry_reset", {}, "infra_fatal: "),
    ("registry_timeout", {}, "infra_fatal: "),
    ("registry_name_unknown", {}, "infra_fatal: "),
    ("pull_broken", {}, "infra_fatal: "),
    ("host_disk_full", {}, "infra_fatal: "),
    ("exec_format_error", {}, "incompatible: cpu_architecture_mismatch"),
    ("daemon_crashed", {}, "infra_fatal: "),
    ("template_missing", {}, "workload_fatal: "),
    ("never_loads", {}, "unknown: boot_timeout"),
    ("dead_host", {}, "infra_fatal: never_started"),
    ("never_provisioned", {}, "unknown: boot_timeout"),
    ("stops_while_loading", {}, "infra_fatal: never_started"),
    ("exits_at_start", {}, "unknown: container_ended"),
    ("offline_while_loading", {}, "infra_fatal: host_offline"),
    ("status_frozen", {"for_s": 1.0}, READY),
    ("heartbeat_gap", {"for_s": 0.3}, READY),
    ("queued", {}, "unknown: boot_timeout"),
    ("ssh_refused", {}, "infra_fatal: ssh_never_up"),
    ("ssh_refused", {"for_s": 0.5}, READY),
    ("ssh_black_hole", {}, "infra_fatal: ssh_black_hole"),
    ("ssh_reset", {}, READY),
    ("ssh_slow", {"delay_s": 0.5}, READY),
    ("ssh_proxy_broken", {}, READY),
    ("ssh_address_early", {}, READY),
    ("ssh_key_refused", {}, "infra_fatal: ssh_key_refused"),
    ("ssh_key_refused", {"for_s": 0.5}, READY),
    ("key_needs_onstart", {}, READY),
    ("key_needs_attach", {}, READY),
    ("attach_refused", {}, READY),
    ("attach_refused", {"status": 404, "code": "no_such_instance"}, READY),
    ("login_hijacked", {"for_s": 1.0}, READY),
    ("login_hijacked", {"for_s": 600.0}, "unknown: boot_timeout"),
    ("ports_late", {}, READY),
    ("report_gap", {}, READY),
    ("report_gap", {"field": "machine_id", "says": "77", "looks": 99}, "unknown: other_machine"),
    ("ssh_address_missing", {}, "unknown: boot_timeout"),
    ("ports_missing", {}, READY),
    ("driver_too_old", {}, "incompatible: driver_too_old"),
    ("fewer_gpus", {}, "infra_fatal: no_gpu_in_container"),
    ("less_vram", {}, "infra_fatal: vram_less_than_sold"),
    ("other_gpu", {}, "infra_fatal: gpu_other_than_sold"),
    ("nvidia_smi_fails", {}, "infra_fatal: "),
    ("throttled", {}, READY),  # these four run what they are asked to; only who measures there is misled
    ("narrow_pcie", {}, READY),
    ("busy_gpu", {}, READY),
    ("slow_memory", {}, READY),
    ("libcuda_missing", {}, "infra_fatal: libcuda_missing"),
    ("disk_full", {}, "infra_fatal: disk_less_than_rented"),
    ("onstart_never_runs", {}, READY),
    ("container_key_missing", {}, READY),
    ("tools_missing", {"tools": "curl wget"}, READY),
    ("image_env", {}, READY),
    ("image_env", {"tools": "python* curl wget"}, READY),
    ("price_higher", {}, READY),
    ("no_network", {}, READY),  # what is brought along needs no way out
    ("stale_status", {}, READY),
    ("server_crash", OUR_SERVER, "incompatible: "),  # it says that the GPU has too little memory
    ("server_hangs", OUR_SERVER, "warmup: warmup_timeout"),
    ("server_answers", OUR_SERVER, "workload_fatal: wrong_path"),
    ("server_answers", {**OUR_SERVER, "status": 401}, "workload_fatal: key_refused"),
    ("server_other_port", OUR_SERVER, "workload_fatal: wrong_port"),
    ("offer_taken", {}, "gone"),
    ("offer_refused", {}, "gone"),
    ("offer_sold_twice", {"how": "vanishes"}, "gone"),
    ("offer_sold_twice", {"how": "stopped"}, "gone"),
    ("offer_sold_twice", {"how": "ports"}, "gone"),
    ("create_lost", {}, READY),
    ("create_dropped", {}, READY),
    ("create_slow", {"delay_s": 0.5}, READY),
    ("create_success_false", {}, "gone"),
    ("no_credit", {}, "ours"),
    ("spend_rate_limit", {}, "ours"),
    ("auth_404", {"endpoint": "create"}, "ours"),
    ("auth_401", {"endpoint": "create"}, "ours"),
    ("not_authorized", {"endpoint": "create"}, "ours"),
    ("search_quota", {}, "ours"),
    ("destroy_fails", {}, READY),
    ("destroy_lies", {}, READY),
    ("destroy_lost", {}, READY),
    ("list_lags", {}, READY),
    ("show_null", {}, READY),
    ("gone_404", {}, READY),
    ("offer_says", {}, "never rented"),
    ("instance_says", {}, "unknown: price_incredible"),
    ("gzip_bomb", {"endpoint": "search"}, "ours"),
    ("endless_answer", {"endpoint": "search"}, "ours"),
    ("key_echoed", {"endpoint": "create"}, "gone"),
    ("endless_line", {}, "warmup: warmup_timeout"),
)
LOSSES: tuple[str, ...] = (
    "host_lost",
    "stops_by_itself",
    "outbid",
    "container_exits",
    "frozen",
    "instance_vanishes",
)
PASSING: tuple[tuple[tuple[str, dict[str, Any]], ...], ...] = (
    # What passes by itself, met at several calls of one start.
    (
        ("rate_limited", {"endpoint": "list", "retry_after_s": 0.2}),
        ("server_error", {"endpoint": "search"}),
        ("bad_gateway", {"endpoint": "instance_keys"}),
        ("empty_answer", {"endpoint": "show"}),
        ("connection_dropped", {"endpoint": "destroy"}),
        ("unavailable", {"endpoint": "account"}),
    ),
    (
        ("rate_limited_text", {"endpoint": "create", "times": 1}),
        ("rate_limited_detail", {"endpoint": "search", "times": 1}),
        ("bad_json", {"endpoint": "list"}),
        ("truncated", {"endpoint": "show"}),
        ("slow_answer", {"endpoint": "instance_keys", "delay_s": 0.5}),
    ),
)
ELSEWHERE = {
    "server_other_model": "tests of the adapters: the smallest server lists no models",
    "server_ready_too_early": "tests of the adapters: the smallest server completes nothing",
    "create_silent": "as create_dropped, after a time limit that is longer than a whole run here",
    "endless_headers": "tests of the client and of Ctrl-C: its time limit is longer than a whole run here",
    "never_answers": "a test of the client: its time limit is longer than a whole run here",
    "account_says": "tests of money: nothing is begun",
    "price_raised": "tests of money: a start is over before it is looked at again",
    "offline": "said of an instance whose processes go on: nothing for a test to notice",
    "host_key_changed": "tests of SSH: one connection is kept, so it shows only after that broke",
    "tunnel_dies": "tests of the tunnel, which opens another connection",
}
DEATHS = ("server_dies", "server_freezes")
MARKET_WIDE = {
    "auth_404",
    "auth_401",
    "not_authorized",
    "search_quota",
    "list_lags",
    "show_null",
    "gone_404",
    "gzip_bomb",
    "endless_answer",
}
"""Faults of an API as a whole; the others belong to the cheap machine."""

TEST = """
def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
"""


CUT_SHORT: dict[str, dict[str, float]] = {
    "offline_while_loading": {"offline_grace_s": 1.0},
    "ssh_refused": {"refused_grace_s": 8.0},
    "ssh_black_hole": {"black_hole_s": 1.0},
    "ssh_key_refused": {"key_grace_s": 8.0},
    "server_answers": {"settled_s": 1.0, "doubtful_s": 2.0},
    "server_other_port": {"settled_s": 1.0, "doubtful_s": 2.0},
}
"""How soon a fault that lasts for ever is given up. What passes has the usual time: a machine that is busy, or does
nothing for some seconds, would else be taken for a host that does not recover."""


@pytest.fixture(autouse=True)
def _short_waits(time_limits: TimeLimits) -> None:
    time_limits.change(
        key_attach_again_s=0.2,
        connect_s=3.0,
        look_least_s=0.1,
        look_most_s=0.1,
        refused_key_s=0.1,
        refused_key_most_s=0.1,
        destroy_pause_s=0.1,
        market_pause_s=0.05,
    )


def with_fault(fault: str, parameters: dict[str, Any]) -> dict[str, Any]:
    entry = {"name": fault, **parameters}
    return {"faults": [entry], **fleet()} if fault in MARKET_WIDE else fleet(entry)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "parameters", "verdict"),
    [
        pytest.param(
            *start,
            id=start[0] + ("-for-a-while" if "for_s" in start[1] else f"-{start[1].get('status', '')}".rstrip("-")),
            marks=() if start[0] in TELLING and "status" not in start[1] else slow,
        )
        for start in STARTS
    ],
)
def test_a_start(
    pytester: pytest.Pytester,
    rent_from: RentFrom,
    host_cache: Path,
    time_limits: TimeLimits,
    fault: str,
    parameters: dict[str, Any],
    verdict: str,
) -> None:
    if verdict != READY:
        time_limits.change(**CUT_SHORT.get(fault, {}))
    market = rent_from(with_fault(fault, parameters))
    workload = (
        WORKLOAD.replace("gpus=1", "gpus=1, warmup_s=10") if fault in {"server_hangs", "endless_line"} else WORKLOAD
    )
    pytester.makepyfile(workload + TEST)
    more = ["--vast-boot-timeout=12"] if verdict == "unknown: boot_timeout" else []
    result = pytester.runpytest_inprocess(AGGRESSIVE, *more)
    rented = [rent["machine_id"] for rent in market.status()["ended"]]
    bad = record_of(host_cache, BAD)
    failure_class = verdict.partition(":")[0]

    if verdict == "never rented":
        result.assert_outcomes(passed=1)
        assert rented == [GOOD]
        return
    if verdict == READY:
        result.assert_outcomes(passed=1)
        assert rented == [BAD]
        assert (bad.successes, bad.infra_failures) == (1, 0)
        return
    if failure_class in {"gone", "ours"}:  # nobody's fault: recorded against nobody
        result.assert_outcomes(**({"passed": 1} if failure_class == "gone" else {"errors": 1}))
        assert bad == MachineRecord(BAD)
        return
    result.stdout.fnmatch_lines([f"*101 *{verdict}*"])
    if failure_class == "workload_fatal":
        result.assert_outcomes(errors=1)
        assert rented == [BAD]
        assert (bad.infra_failures, bad.banned_until) == (0, 0)
        return
    result.assert_outcomes(passed=1)
    assert rented == [BAD, GOOD]
    assert record_of(host_cache, GOOD).successes == 1
    assert (bad.banned_until > 0 and bad.last_reason != "") is (failure_class == "infra_fatal")
    assert (bad.infra_failures > 0.5) is (failure_class == "infra_fatal")
    assert (len(bad.incompatible) == 1) is (failure_class == "incompatible")


@pytest.mark.slow
def test_a_host_that_does_everything_late_and_one_way_only_is_not_blamed(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    """As live rentals do: ports after some looks, a proxy that is down, a key that counts only if it is written …"""
    faults = (
        {"name": "report_gap", "after": 1},
        {"name": "ports_late", "looks": 3},
        "ssh_proxy_broken",
        {"name": "attach_refused", "status": 404, "code": "no_such_instance"},
        "key_needs_onstart",
        {"name": "login_hijacked", "for_s": 1.0},
    )
    market = rent_from({"faults": [{"name": "list_lags", "times": 1e9}], **fleet(*faults, stages={"loading_s": 0.5})})
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*the SSH key is not attached: * (HTTP 404, no_such_instance); the start script *"])
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD]
    assert (record_of(host_cache, BAD).successes, record_of(host_cache, BAD).infra_failures) == (1, 0)


@slow
@pytest.mark.parametrize("faults", PASSING, ids=["one", "two"])
def test_what_passes_by_itself_costs_no_healthy_instance(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, faults: tuple[tuple[str, dict[str, Any]], ...]
) -> None:
    market = rent_from({"faults": [{"name": name, **parameters} for name, parameters in faults], **fleet()})
    pytester.makepyfile(WORKLOAD + TEST)
    pytester.runpytest_inprocess(AGGRESSIVE).assert_outcomes(passed=1)
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD]
    assert record_of(host_cache, BAD).successes == 1


@slow
@pytest.mark.parametrize("fault", LOSSES)
def test_a_loss_in_use_is_an_error_and_the_next_test_gets_another(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, fault: str
) -> None:
    rent_from(fleet())
    pytester.makepyfile(loses_one(fault))
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*the instance was lost while the test used it: runtime_lost: *", "101 *runtime_lost: *", "102 * ready"]
    )
    bad = record_of(host_cache, BAD)
    assert 0 < bad.infra_failures < 0.5
    assert bad.banned_until == 0


@slow
@pytest.mark.parametrize("fault", DEATHS)
def test_a_server_that_dies_on_a_living_instance_is_the_tests_business(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, fault: str
) -> None:
    rent_from(with_fault(fault, {"after_s": 10.0, **OUR_SERVER}))
    pytester.makepyfile(
        WORKLOAD
        + """
def test_it(vast_instance):
    while httpx.get(vast_instance.endpoint, timeout=2).text == "here I am":
        pass
"""
    )
    pytester.runpytest_inprocess(AGGRESSIVE).assert_outcomes(failed=1)
    bad = record_of(host_cache, BAD)
    assert (bad.successes, bad.infra_failures) == (1, 0)


def test_every_fault_has_its_place() -> None:
    here = {fault for fault, *_ in STARTS} | {fault for faults in PASSING for fault, _ in faults} | {*LOSSES, *DEATHS}
    assert here | ELSEWHERE.keys() == catalogue().keys()
    assert not here & ELSEWHERE.keys()
