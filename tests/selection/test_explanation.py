from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.explanation import changes as changes_for
from pytest_vastgpu.selection.explanation import explain_no_offers
from pytest_vastgpu.selection.explanation import why_none
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.settings import Strictness
from tests.selection.test_admission import offers
from tests.selection.values import NOW
from tests.selection.values import need
from tests.selection.values import offer
from tests.selection.values import workload

BANNED = Reputation(machines={100: MachineRecord(100, banned_until=NOW + 9)})


@pytest.mark.parametrize(
    ("have", "want", "changes", "nearest"),
    [
        ({"price_usd_h": 1.206}, {}, {}, "--vast-max-price=1.21 would admit machine 100 (RTX 4090) at 1.21 USD/h"),
        (
            {"reliability": 0.97},
            {},
            {},
            "--vast-strictness=aggressive would admit machine 100 (RTX 4090) at 0.40 USD/h",
        ),
        (
            {"direct_port_count": 9},
            {},
            {"strictness": Strictness.STRICT},
            "--vast-strictness=balanced would admit machine 100 (RTX 4090) at 0.40 USD/h",
        ),
        (
            {"reliability": 0.97, "direct_port_count": 9, "price_usd_h": 1.5},
            {},
            {"strictness": Strictness.STRICT},
            "--vast-strictness=aggressive with --vast-max-price=1.50 would admit",
        ),
        ({"geolocation": "China, CN"}, {}, {}, "--vast-exclude-countries=IR,KP,RU,SY would admit"),
        (
            {"geolocation": "China, CN"},
            {},
            {"excluded_countries": frozenset({"CN"})},
            "--vast-exclude-countries=none would admit",
        ),
        ({}, {"gpu_ram_gb": 40}, {}, "gpu_ram_gb=24.5 in the workload would admit"),
        ({}, {"gpu_name": "H100"}, {}, 'gpu_name="RTX 4090" in the workload would admit'),
        ({"duration_s": 7201}, {"expected_use_s": 7200}, {}, "expected_use_s=3600 in the workload would admit"),
        (
            {"duration_s": 720, "inet_down_usd_gb": 0.02},
            {"expected_use_s": 1800, "image_gb": 5},
            {},
            "expected_use_s=360 in the workload with --vast-max-price=1.40 would admit machine 100 (RTX 4090) at 1.40",
        ),
        ({}, {"gpus": 2}, {}, "gpus=1 in the workload would admit"),
        ({}, {}, {"reputation": BANNED}, "`vastgpu hosts allow 100` would admit"),
        ({}, {}, {"failed_machines": frozenset({100})}, "the only machine has failed in this run already"),
        ({"verified": False, "price_usd_h": 2}, {}, {}, "none fits, and no option would change that"),
        ({"reliability": 0.5}, {}, {}, "none fits, and no option would change that"),
        ({"num_gpus": 0}, {}, {}, "nothing on this market has a GPU, and the workload needs 1"),
    ],
)
def test_the_nearest_relaxation(
    have: dict[str, Any], want: dict[str, Any], changes: dict[str, Any], nearest: str
) -> None:
    first = explain_no_offers([offer(**have)], need(workload(**want), **changes)).splitlines()[0]
    assert first.startswith("no offers: ")
    assert nearest in first


@pytest.mark.parametrize(
    ("wanted", "on_offer", "names", "relaxed"),
    [
        ("RTX4090", ["A100 SXM4", "RTX 3090", "RTX 4090"], "RTX 4090, RTX 4090D, ", "RTX 4090"),
        ("rtx_4090_ti", ["RTX 3090 Ti"], "RTX 3090 Ti, ", "RTX 3090 Ti"),
        ("H100", ["RTX 3090"], "H100 NVL, H100 SXM, ", "RTX 3090"),
        ("My GPU 7", ["My GPU 9"], "My GPU 9, ", "My GPU 9"),
    ],
)
def test_a_gpu_name_that_is_misspelt_is_told_with_the_nearest_names_first(
    wanted: str, on_offer: list[str], names: str, relaxed: str
) -> None:
    found = [offer(id=n, machine_id=n, gpu_name=name, price_usd_h=n / 10) for n, name in enumerate(on_offer, 1)]
    first = explain_no_offers(found, need(workload(gpu_name=wanted))).splitlines()[0]
    spelt = wanted.replace("_", " ")
    told = f"no offers: no GPU on offer is called {spelt!r}, and none that we know; the nearest are {names}"
    assert first.startswith(told)
    assert f'; gpu_name="{relaxed}" in the workload would admit machine ' in first


def test_a_gpu_name_that_is_right_is_not_doubted() -> None:
    first = explain_no_offers([offer(gpu_name="RTX 3090")], need(workload(gpu_name="RTX 4090"))).splitlines()[0]
    assert first.startswith("no offers: no GPU on offer is called 'RTX 4090'; gpu_name=")
    also = [offer(gpu_name="RTX 4090", price_usd_h=9), offer(id=2, machine_id=2, gpu_name="RTX 3090")]
    assert "is called" not in explain_no_offers(also, need(workload(gpu_name="rtx_4090")))


def test_a_name_that_is_misspelt_is_not_called_beyond_help() -> None:
    first = explain_no_offers([offer(verified=False)], need(workload(gpu_name="RTX4090"))).splitlines()[0]
    assert first.endswith("the nearest are RTX 4090, RTX 4090D, RTX 3090")


def test_machines_that_have_all_failed_in_this_run_are_told_as_that() -> None:
    both = [offer(), offer(id=2, machine_id=2)]
    wanted = need(failed_machines=frozenset({100, 2}))
    first, *_, last = explain_no_offers(both, wanted).splitlines()
    assert first == "no offers: every machine has failed in this run already"
    assert last == "  2 by failed_before: a machine that has not failed in this run is wanted"
    assert why_none(both, wanted) == first.removeprefix("no offers: ")
    other = [offer(), offer(id=2, machine_id=2, verified=False)]
    assert "no option would change that" in explain_no_offers(other, need(failed_machines=frozenset({100})))


def test_one_offer_is_not_several() -> None:
    assert explain_no_offers([offer(price_usd_h=2)], need()).splitlines()[1] == "the only offer:"


def test_the_nearest_of_several() -> None:
    found = [
        offer(id=1, machine_id=1, gpu_name="H100", price_usd_h=2.5),
        offer(id=2, machine_id=2, price_usd_h=1.25),
        offer(id=3, machine_id=3, price_usd_h=0.1, gpu_ram_mb=8000),
        offer(id=4, machine_id=4, price_usd_h=1.1, reliability=0.96),
        offer(id=5, machine_id=5, price_usd_h=0.1, verified=False),
    ]
    text = explain_no_offers(found, need(workload(gpu_ram_gb=20)))
    assert text.splitlines() == [
        "no offers: --vast-max-price=1.25 would admit machine 2 (RTX 4090) at 1.25 USD/h",
        "of 5 offers (one can fail several conditions):",
        "  1 by gpu_ram_gb: at least 20 GB is wanted",
        "  1 by verified: verified by the market is wanted",
        "  1 by reliability: at least 0.98 is wanted",
        "  3 by price: at most 1.00 USD/h with disk and transfer is wanted",
    ]


def test_an_empty_market() -> None:
    assert "nothing to rent" in explain_no_offers([], need())


@pytest.mark.parametrize(
    ("dear", "told"),
    [
        (1.6, [("--vast-max-price=1.20",)]),
        (1.2, [("--vast-max-price=1.20",)]),
        (1.1, [("--vast-max-price=1.20",), ("--vast-strictness=aggressive", "--vast-max-price=1.10")]),
    ],
    ids=["dearer", "as dear", "cheaper"],
)
def test_a_change_that_relaxes_more_than_another_must_lead_to_a_lower_price(
    dear: float, told: list[tuple[str, ...]]
) -> None:
    found = [offer(price_usd_h=1.2), offer(machine_id=101, price_usd_h=dear, reliability=0.97)]
    wanted = need(workload())
    assert [change.steps for change in changes_for(admit(found, wanted).dropped, wanted, 3)] == told


@pytest.mark.parametrize(
    ("have", "want", "told"),
    [
        (
            {"num_gpus": 0},
            {},
            "no offers: nothing on this market has a GPU, and each host needs 1; set --vast-gpus=0 if the tests can do "
            "without, or VAST_API_KEY to rent from Vast.ai",
        ),
        ({}, {"gpus": 2}, "no offers: --vast-gpus=1 would admit"),
        ({}, {"gpu_ram_gb": 40}, "no offers: --vast-gpu-ram=24.5 would admit"),
        ({}, {"gpu_name": "H100"}, '; --vast-gpu-name="RTX 4090" would admit'),
        ({}, {"compute_cap": 9.0}, "no offers: --vast-compute-cap=8.9 would admit"),
        ({}, {"cuda": 12.8}, "no offers: --vast-cuda=12.4 would admit"),
        ({}, {"disk_gb": 300}, "no offers: --vast-disk=200 would admit"),
        ({"duration_s": 7201}, {"expected_use_s": 7200}, "no offers: expected_use_s=3600 in the mark vast would admit"),
    ],
)
def test_for_a_host_it_names_options(have: dict[str, Any], want: dict[str, Any], told: str) -> None:
    wanted = Workload(HOST, port=0, **want)
    first = explain_no_offers([offer(**have)], need(wanted)).splitlines()[0]
    assert told in first
    assert "in the workload" not in first


@given(offers)
def test_doing_what_it_says_admits_the_offer(one: Any) -> None:
    wanted = need(workload(gpu_ram_gb=20, image_gb=5))
    if admit([one], wanted).kept:
        return
    first = explain_no_offers([one], wanted).splitlines()[0]
    relaxed = re.search(r"no offers: (.*) would admit machine 100", first)
    if not relaxed:
        return
    changes: dict[str, Any] = {}
    work: dict[str, Any] = {"gpu_ram_gb": 20, "image_gb": 5}
    for step in relaxed.group(1).split(" with "):
        name, value = step.removesuffix(" in the workload").split("=")
        if name == "--vast-max-price":
            changes["max_price_usd_h"] = float(value)
        elif name == "--vast-strictness":
            changes["policy"] = POLICIES[Strictness(value)]
        elif name == "--vast-exclude-countries":
            changes["excluded_countries"] = frozenset(value.split(","))
        else:
            work[name] = float(value)
    changes["workload"] = workload(**work)
    assert admit([one], need(**changes)).kept
