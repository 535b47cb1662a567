"""A search for offers, in the fields and units of :class:`~pytest_vastgpu.model.Offer`. Providers translate it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OfferFilter:
    """One condition that a provider can check."""

    field: str
    """A field of :class:`~pytest_vastgpu.model.Offer`."""
    operator: Literal["==", ">=", "<=", "not in"]
    value: bool | float | str | tuple[str, ...]


@dataclass(frozen=True)
class OfferQuery:
    """Offers on demand that pass every filter, the cheapest first."""

    filters: tuple[OfferFilter, ...]
    disk_gb: float
    """GB of disk that the prices include."""
    limit: int
    """Most offers in the answer."""
