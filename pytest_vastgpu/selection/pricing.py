"""Computes what an offer costs for a workload."""

from __future__ import annotations

from collections.abc import Callable

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload

_LEAST_USE_S = 60.0
"""Shortest use over which a transfer is spread: a use of 0 s would make any transfer infinitely expensive."""


def transfer_usd(offer: Offer, workload: Workload) -> float:
    """USD for one transfer of image and model. Vast bills traffic by the byte, at each machine's own price."""
    return (workload.image_gb + workload.model_gb) * offer.inet_down_usd_gb


def hourly_usd(offer: Offer, workload: Workload) -> float:
    """USD an hour in total: the offer's price, which includes GPU and disk, and the transfer spread over the expected
    use.

    The price limit applies to this amount. The offer must come from a search with the workload's disk size.
    """
    return hourly_price(workload)(offer)


def hourly_price(workload: Workload) -> Callable[[Offer], float]:
    """:func:`hourly_usd` for many offers."""
    gb_h = (workload.image_gb + workload.model_gb) * HOUR_S / max(workload.expected_use_s, _LEAST_USE_S)
    return lambda offer: offer.price_usd_h + offer.inet_down_usd_gb * gb_h
