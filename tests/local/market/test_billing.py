from __future__ import annotations

import pytest

from pytest_vastgpu.local.market.billing import Change
from pytest_vastgpu.local.market.billing import Rates
from pytest_vastgpu.local.market.billing import bill

RATES = Rates(storage_usd_gb_month=0.72, disk_gb=100.0, inet_down_usd_gb=0.02, inet_up_usd_gb=0.01)


@pytest.mark.parametrize(
    ("states", "gpu_s", "storage_s"),
    [
        ([(0, "created")], 0, 3600),
        ([(0, "created"), (100, "loading"), (600, "running")], 3000, 3600),
        ([(0, "created"), (600, "running"), (1600, "exited")], 1000, 3600),
        ([(0, "running"), (1000, "offline"), (2000, "running")], 2600, 2600),
        ([(0, "running"), (600, "frozen")], 3600, 3600),
        ([(0, "running"), (600, "stopped")], 600, 3600),
    ],
)
def test_what_is_charged_in_which_state(states: list[tuple[float, str]], gpu_s: float, storage_s: float) -> None:
    due = bill(RATES, [Change(at, state, 0.36) for at, state in states], 3600)
    assert (due.gpu_seconds, due.storage_seconds) == (gpu_s, storage_s)
    assert due.gpu_usd == pytest.approx(gpu_s * 0.0001)
    assert due.storage_usd == pytest.approx(storage_s * 0.1 / 3600)
    assert due.total_usd == pytest.approx(due.gpu_usd + due.storage_usd)


def test_a_changed_bid_counts_from_then_on() -> None:
    assert bill(RATES, [Change(0, "running", 0.36), Change(1800, "running", 0.72)], 3600).gpu_usd == pytest.approx(0.54)


def test_traffic_is_charged_by_the_gb() -> None:
    assert bill(RATES, [Change(0, "offline", 1)], 10, down_gb=5, up_gb=1).total_usd == pytest.approx(0.11)


def test_a_clock_that_is_set_back_costs_nothing() -> None:
    assert bill(RATES, [Change(100, "running", 1.0)], 50).total_usd == 0
