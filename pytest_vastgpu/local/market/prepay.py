"""Money paid in for an instance beforehand, and the discount for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.local.market.billing import HOURS_PER_MONTH

_DISCOUNTS = ((3.0, 0.3), (1.0, 0.2))
"""From so many months on, so much less of the GPUs' price: the defaults that Vast's command line names."""


@dataclass(frozen=True)
class Prepayment:
    """What a sum buys."""

    discount: float
    """0.2 is a fifth less."""
    months: float
    """How long the sum lasts with the discount."""


def prepayment(amount_usd: float, gpu_usd_h: float, storage_usd_h: float) -> Prepayment:
    """What a sum buys of an instance.

    :param gpu_usd_h: Without any discount.
    """
    full = (gpu_usd_h + storage_usd_h) * HOURS_PER_MONTH
    bought = amount_usd / full if full else 0.0
    discount = next((each for months, each in _DISCOUNTS if bought >= months), 0.0)
    reduced = full - discount * gpu_usd_h * HOURS_PER_MONTH
    return Prepayment(discount, amount_usd / reduced if reduced else 0.0)
