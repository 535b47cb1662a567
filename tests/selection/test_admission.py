from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.model import HostRecord
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.providers.vast.search_body import search_body
from pytest_vastgpu.selection.admission import admissible
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.admission import search_query
from pytest_vastgpu.selection.admission import wide_query
from pytest_vastgpu.selection.admission import widest_query
from pytest_vastgpu.selection.conditions import CONDITIONS
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.settings import Strictness
from tests.selection.values import NOW
from tests.selection.values import need
from tests.selection.values import offer
from tests.selection.values import workload


def reputation(machine: dict[str, Any] | None = None, host: dict[str, Any] | None = None) -> Reputation:
    return Reputation(
        machines={100: MachineRecord(machine_id=100, **machine)} if machine is not None else {},
        hosts={10: HostRecord(host_id=10, **host)} if host is not None else {},
    )


BANNED: dict[str, Any] = {"banned_until": NOW + 1}

CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    # condition that removes it ("" for none), changes of the offer, of the workload, and what the case is about
    ("", {}, {}, "nothing special"),
    ("gpus", {"num_gpus": 1}, {"gpus": 2}, "too few GPUs"),
    ("", {"num_gpus": 4}, {"gpus": 2}, "more GPUs than needed"),
    ("gpu_name", {"gpu_name": "RTX 3090"}, {"gpu_name": "RTX 4090"}, "another GPU"),
    ("", {"gpu_name": "RTX 4090"}, {"gpu_name": "rtx_4090"}, "the vendor's command line's spelling"),
    ("gpu_ram_gb", {"gpu_ram_mb": 23999}, {"gpu_ram_gb": 24}, "just too little VRAM"),
    ("", {"gpu_ram_mb": 24564}, {"gpu_ram_gb": 24}, "a 24 GB card as it reports itself"),
    ("compute_cap", {"compute_cap": 8.6}, {"compute_cap": 8.9}, "an older GPU"),
    ("", {"compute_cap": 8.9}, {"compute_cap": 8.9}, "just new enough a GPU"),
    ("cuda", {"cuda_max_good": 12.2}, {"cuda": 12.4}, "a driver too old"),
    ("disk_gb", {"disk_space_gb": 39.9}, {"disk_gb": 40}, "too small a disk"),
    ("", {"disk_space_gb": 40}, {"disk_gb": 40}, "just enough disk"),
    ("duration", {"duration_s": 7199}, {"expected_use_s": 3600}, "ends too soon"),
    ("", {"duration_s": 7200}, {"expected_use_s": 3600}, "ends just late enough"),
    ("rentable", {"rentable": False}, {}, "not rentable"),
    ("rented", {"rented": True}, {}, "rented"),
    ("on_demand", {"is_bid": True}, {}, "interruptible"),
    ("verified", {"verified": False}, {}, "not verified"),
    ("country", {"geolocation": "China, CN"}, {}, "excluded country"),
    ("country", {"geolocation": "RU"}, {}, "a code alone"),
    ("", {"geolocation": ""}, {}, "no country told"),
    ("", {"geolocation": "Cnidos, GR"}, {}, "a code only at the end"),
    ("price", {"price_usd_h": 1.01}, {}, "too dear"),
    ("", {"price_usd_h": 1.00}, {}, "just within the price"),
    ("price", {"price_usd_h": 0.80, "inet_down_usd_gb": 0.01}, {"image_gb": 8, "model_gb": 3}, "too dear a transfer"),
    (
        "",
        {"price_usd_h": 0.80, "inet_down_usd_gb": 0.01},
        {"image_gb": 8, "model_gb": 1},
        "a transfer within the price",
    ),
    ("", {"num_gpus": 0, "gpu_name": "", "gpu_ram_mb": 0}, {"gpus": 0, "gpu_ram_gb": 24, "cuda": 13}, "no GPU needed"),
]


@pytest.mark.parametrize(("removed_by", "have", "want", "about"), CASES, ids=[case[3] for case in CASES])
def test_conditions(removed_by: str, have: dict[str, Any], want: dict[str, Any], about: str) -> None:
    wanted = need(workload(**want))
    admission = admit([offer(**have)], wanted)
    assert [dropped.failed[0].name for dropped in admission.dropped] == ([removed_by] if removed_by else [])
    assert len(admission.kept) + len(admission.dropped) == 1
    for dropped in admission.dropped:
        [condition] = dropped.failed
        assert condition.name == removed_by
        assert condition.has(dropped.offer, wanted)
        assert condition.wants(wanted)


def test_every_level_has_a_policy_the_strictest_first() -> None:
    assert list(POLICIES) == list(Strictness)


@pytest.mark.parametrize(
    ("level", "reliability", "ports", "download"),
    [(Strictness.STRICT, 0.995, 16, 500), (Strictness.BALANCED, 0.98, 8, 200), (Strictness.AGGRESSIVE, 0.95, 4, 100)],
)
def test_levels(level: Strictness, reliability: float, ports: int, download: float) -> None:
    exact = {"reliability": reliability, "direct_port_count": ports, "inet_down_mbps": download}
    wanted = need(strictness=level)
    assert admit([offer(**exact)], wanted).kept
    for field, name, less in (
        ("reliability", "reliability", 0.0001),
        ("direct_port_count", "direct_ports", 1),
        ("inet_down_mbps", "download", 0.1),
    ):
        (dropped,) = admit([offer(**{**exact, field: exact[field] - less})], wanted).dropped
        assert dropped.failed[0].name == name
    assert POLICIES[level].by_record is (level is not Strictness.AGGRESSIVE)


@pytest.mark.parametrize(
    ("machine", "host", "banned"),
    [
        (None, None, False),
        (BANNED, None, True),
        ({"banned_until": NOW}, None, False),
        ({"banned_until": math.inf}, None, True),
        (None, BANNED, True),
        ({}, BANNED, True),
        ({**BANNED, "allowed": True}, None, False),
        ({"allowed": True}, BANNED, False),
        (None, {**BANNED, "allowed": True}, False),
        (BANNED, {"allowed": True}, True),
    ],
    ids=[
        "unknown",
        "machine banned",
        "ban over",
        "banned for good",
        "host banned",
        "host banned, machine known",
        "machine banned and allowed",
        "host banned, machine allowed",
        "host banned and allowed",
        "host allowed, but not this machine",
    ],
)
def test_bans(machine: dict[str, Any] | None, host: dict[str, Any] | None, banned: bool) -> None:
    admission = admit([offer()], need(reputation=reputation(machine, host)))
    assert [dropped.failed[0].name for dropped in admission.dropped] == (["banned"] if banned else [])


def test_what_failed_in_this_run_and_what_cannot_work() -> None:
    def removed_by(**changes: Any) -> list[str]:
        return [dropped.failed[0].name for dropped in admit([offer()], need(workload_key="w", **changes)).dropped]

    assert removed_by(failed_machines=frozenset({100})) == ["failed_before"]
    assert removed_by(failed_machines=frozenset({101})) == []
    assert removed_by(reputation=reputation({"incompatible": frozenset({"w"})})) == ["incompatible"]
    assert removed_by(reputation=reputation({"incompatible": frozenset({"v"})})) == []
    assert removed_by(reputation=Reputation(incompatible_kinds=frozenset({("RTX 4090", "w")}))) == ["incompatible"]
    assert removed_by(reputation=Reputation(incompatible_kinds=frozenset({("RTX 3090", "w")}))) == []


def test_the_query_asks_for_all_that_the_market_can_check() -> None:
    wanted = workload(
        gpus=2, gpu_name="RTX_4090", gpu_ram_gb=20, compute_cap=8.9, cuda=12.4, disk_gb=40, expected_use_s=3600
    )
    assert search_body(search_query(need(wanted))) == {
        "type": "on-demand",
        "order": [["dph_total", "asc"]],
        "limit": 64,
        "allocated_storage": 40,
        "num_gpus": {"gte": 2},
        "gpu_name": {"eq": "RTX 4090"},
        "gpu_ram": {"gte": 20000},
        "compute_cap": {"gte": 890},
        "cuda_max_good": {"gte": 12.4},
        "disk_space": {"gte": 40},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "verified": {"eq": True},
        "duration": {"gte": 7200},
        "reliability": {"gte": 0.98},
        "direct_port_count": {"gte": 8},
        "inet_down": {"gte": 200},
        "geolocation": {"notin": ["CN", "IR", "KP", "RU", "SY"]},
        "dph_total": {"lte": 1.0},
    }


def test_wider_queries_ask_for_less() -> None:
    wanted = need(workload(gpu_name="RTX 4090", gpu_ram_gb=20))
    narrow, wide, widest = (search_body(query(wanted)) for query in (search_query, wide_query, widest_query))
    assert set(narrow) > set(wide) > set(widest)
    assert set(wide) - set(widest) == {"num_gpus", "gpu_name", "gpu_ram", "disk_space"}


def test_a_workload_without_gpu_asks_for_none() -> None:
    query = search_body(
        search_query(need(workload(gpus=0, gpu_name="RTX 4090", gpu_ram_gb=20, cuda=12.4, compute_cap=8.0)))
    )
    assert not {"num_gpus", "gpu_name", "gpu_ram", "cuda_max_good", "compute_cap"} & set(query)


offers = st.builds(
    lambda **changes: offer(**changes),
    num_gpus=st.integers(0, 8),
    gpu_ram_mb=st.floats(0, 200_000),
    reliability=st.floats(0, 1),
    direct_port_count=st.integers(0, 1000),
    inet_down_mbps=st.floats(0, 10_000),
    inet_down_usd_gb=st.floats(0, 0.05),
    price_usd_h=st.floats(0, 5),
    verified=st.booleans(),
    duration_s=st.floats(0, 1e7),
    geolocation=st.text(max_size=12) | st.sampled_from(["China, CN", "Sweden, SE"]),
)


@given(st.lists(offers, max_size=20))
def test_admission_sorts_and_loses_nothing(found: list[Any]) -> None:
    wanted = need(workload(gpu_ram_gb=20, image_gb=5))
    admission = admit(found, wanted)
    assert sorted(map(id, [*admission.kept, *(one.offer for one in admission.dropped)])) == sorted(map(id, found))
    assert admissible(found, wanted) == list(admission.kept)
    for kept in admission.kept:
        assert all(condition.holds(kept, wanted) for condition in CONDITIONS)
        assert hourly_usd(kept, wanted.workload) <= wanted.max_price_usd_h
    for dropped in admission.dropped:
        assert dropped.failed


@given(offers)
def test_what_a_strict_level_admits_a_looser_one_does_too(one: Any) -> None:
    kept = [bool(admit([one], need(strictness=level)).kept) for level in POLICIES]
    assert kept == sorted(kept)
