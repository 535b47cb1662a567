"""The requirements on an offer: the input of every decision about offers."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.strictness import Policy


def image_key(workload: Workload) -> str:
    """Identifies the image of a workload in a machine's record: its name, or that of the adapter that has a default."""
    return workload.image or workload.adapter


@dataclass(frozen=True)
class OfferRequirements:
    """Everything that decides which offers are admitted."""

    workload: Workload
    policy: Policy
    max_price_usd_h: float
    """Limit on :func:`~pytest_vastgpu.selection.pricing.hourly_usd`."""
    excluded_countries: frozenset[str]
    """Two-letter codes. A machine whose country is unknown is admitted."""
    reputation: Reputation
    now: float
    """Epoch seconds; decides which bans have ended."""
    failed_machines: frozenset[int] = frozenset()
    """Machines that failed in this run."""
    workload_key: str = ""
    """The workload's key in the reputation."""
