"""What renting an offer costs a workload."""

from __future__ import annotations

from collections.abc import Callable

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload

_LEAST_USE_S = 60.0
"""A transfer is never spread over less: a use of no time would make any transfer infinitely dear."""


def transfer_usd(offer: Offer, workload: Workload) -> float:
    """USD for pulling the image and the model once. Vast bills traffic by the byte, at each machine's own price."""
    return (workload.image_gb + workload.model_gb) * offer.inet_down_usd_gb


def hourly_usd(offer: Offer, workload: Workload) -> float:
    """USD an hour, all in: the offer's price, which holds GPU and disk, and the transfer spread over the expected use.

    This is what the limit on the price applies to. The offer must come from a search that named the workload's disk.
    """
    return hourly_price(workload)(offer)


def hourly_price(workload: Workload) -> Callable[[Offer], float]:
    """:func:`hourly_usd` for many offers."""
    gb_h = (workload.image_gb + workload.model_gb) * HOUR_S / max(workload.expected_use_s, _LEAST_USE_S)
    return lambda offer: offer.price_usd_h + offer.inet_down_usd_gb * gb_h
