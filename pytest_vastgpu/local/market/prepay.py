"""Prepayments for an instance, and their discount. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.local.market.billing import HOURS_PER_MONTH

_DISCOUNTS = ((3.0, 0.3), (1.0, 0.2))
"""Months that a prepayment must cover, and the discount on the price of the GPUs: the defaults that Vast's command
line names."""


@dataclass(frozen=True)
class Prepayment:
    """The discount and the time that a sum buys."""

    discount: float
    """0.2 is a fifth less."""
    months: float
    """How long the sum lasts, with the discount."""


def prepayment(amount_usd: float, gpu_usd_h: float, storage_usd_h: float) -> Prepayment:
    """Compute what a sum buys.

    :param gpu_usd_h: USD an hour of the GPUs, without any discount.
    :param storage_usd_h: USD an hour of the disk.
    """
    full = (gpu_usd_h + storage_usd_h) * HOURS_PER_MONTH
    bought = amount_usd / full if full else 0.0
    discount = next((each for months, each in _DISCOUNTS if bought >= months), 0.0)
    reduced = full - discount * gpu_usd_h * HOURS_PER_MONTH
    return Prepayment(discount, amount_usd / reduced if reduced else 0.0)
