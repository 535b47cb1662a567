from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.local.fleet.machine import Machine
from pytest_vastgpu.local.market.offer_rows import driver_number
from pytest_vastgpu.local.market.offer_rows import offer_row
from pytest_vastgpu.local.market.query import QueryInvalid
from pytest_vastgpu.local.market.query import evaluate
from pytest_vastgpu.local.market.query import parse_query

BASE = Machine(machine_id=1, host_id=1)
MACHINES = (
    BASE,
    replace(BASE, machine_id=2, gpu_name="H100 SXM", gpu_ram_mb=81559, price_usd_h=2.0, geolocation="Texas, US"),
    replace(BASE, machine_id=3, verification="unverified", reliability=0.9, price_usd_h=0.1),
    replace(BASE, machine_id=4, num_gpus=4, datacenter=True, driver_version="535.86.05", cuda_max_good=12.2),
    replace(BASE, machine_id=5, gpu_name="", num_gpus=0, geolocation="This machine", storage_usd_gb_month=7.2),
)
ROWS = [offer_row(machine, 1000 + machine.machine_id, 0.0) for machine in MACHINES]


def found(**query: object) -> list[int]:
    order = {"order": [["machine_id", "asc"]]}
    return [row["machine_id"] for row in evaluate(parse_query({**order, **query}, 64), ROWS)]


@pytest.mark.parametrize(
    ("query", "machines"),
    [
        ({}, [1, 2, 4, 5]),
        ({"verified": {"eq": False}}, [3]),
        ({"verified": {"in": [True, False]}}, [1, 2, 3, 4, 5]),
        ({"verified": {"eq": "true"}}, [1, 2, 4, 5]),
        ({"external": {"eq": False}}, [1, 2, 4, 5]),
        ({"external": {"eq": True}}, []),
        ({"rented": {"eq": True}}, []),
        ({"gpu_name": {"eq": "H100 SXM"}}, [2]),
        ({"gpu_name": {"in": ["H100 SXM", "RTX 4090"]}}, [1, 2, 4]),
        ({"gpu_name": {"notin": ["H100 SXM", "RTX 4090"]}}, [5]),
        ({"gpu_name": {"neq": "RTX 4090"}}, [2, 5]),
        ({"gpu_ram": {"gte": 80000.0}}, [2]),
        ({"gpu_ram": {"gte": "80000"}}, [2]),
        ({"num_gpus": {"eq": "4"}}, [4]),
        ({"num_gpus": {"gte": "1", "lte": "3"}}, [1, 2]),
        ({"num_gpus": {"gt": 1}}, [4]),
        ({"num_gpus": {"lt": 1}}, [5]),
        ({"reliability": {"gt": "0.95"}}, [1, 2, 4, 5]),
        ({"reliability2": {"gt": 0.9995}}, []),
        ({"datacenter": {"eq": True}}, [4]),
        ({"geolocation": {"in": ["SE", "NO"]}}, [1, 4]),
        ({"geolocation": {"eq": "Texas, US"}}, [2]),
        ({"geolocation": {"notin": ["US"]}}, [1, 4, 5]),
        ({"driver_version": {"lt": 535086006}}, [4]),
        ({"driver_version": {"gte": "570.00.00"}}, [1, 2, 5]),
        ({"cuda_max_good": {"lte": "12.2"}}, [4]),
        ({"dph_total": {"lte": 0.31}}, [1, 4]),
        ({"dph_total": {"lte": "0.31"}, "allocated_storage": 0}, [1, 4, 5]),
        ({"nothing_like_that": {"gte": 1}}, []),
        ({"type": "bid", "dph_total": {"lte": 0.16}}, [1, 2, 4]),
        ({"limit": 2}, [1, 2]),
        ({"limit": 0}, []),
        ({"order": [["dph_total", "desc"], ["machine_id", "asc"]]}, [2, 5, 1, 4]),
        ({"order": [["dph", "asc"], ["machine_id", "desc"]]}, [4, 1, 5, 2]),
    ],
)
def test_what_a_query_finds(query: dict[str, object], machines: list[int]) -> None:
    assert found(**query) == machines


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([], "must be dict of conditions"),
        ({"gpu_name": "RTX 4090"}, "q.gpu_name: Input should be a valid dictionary"),
        ({"num_gpus": {"about": 3}}, "unknown operator 'about'"),
        ({"num_gpus": {"gte": "many"}}, "valid number, not 'many'"),
        ({"num_gpus": {"gte": "nan"}}, "valid number"),
        ({"order": [["dph_total"]]}, "q.order"),
        ({"order": "dph"}, "q.order"),
        ({"type": "lease"}, "q.type"),
    ],
)
def test_what_is_no_query(query: object, message: str) -> None:
    with pytest.raises(QueryInvalid, match=message):
        parse_query(query, 64)


def test_the_price_holds_the_asked_disk() -> None:
    [row] = evaluate(parse_query({"machine_id": {"eq": 5}, "allocated_storage": 100}, 64), ROWS)
    assert row["storage_total_cost"] == pytest.approx(1.0)
    assert row["dph_total"] == pytest.approx(1.3)
    assert row["search"]["diskHour"] == pytest.approx(1.0)


def test_best_value_comes_first_where_nothing_is_said() -> None:
    scores = [row["score"] for row in evaluate(parse_query({}, 64), ROWS)]
    assert scores == sorted(scores, reverse=True)


@given(st.integers(0, 999), st.integers(0, 99), st.integers(0, 999))
def test_driver_versions_compare_as_numbers(major: int, minor: int, patch: int) -> None:
    assert driver_number(f"{major}.{minor}.{patch}") == major * 10**6 + minor * 1000 + patch
