"""The requirements on an offer: the input of every decision about offers."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.selection.strictness import Policy
from pytest_vastgpu.settings import Settings
from pytest_vastgpu.settings import Strictness

_AFTER_RENTING = frozenset({"image_login", "setup", "setup_s", "warmup_s"})
NEEDS = tuple(name for name in WorkloadFields.__annotations__ if name not in _AFTER_RENTING)
"""The fields of a workload that decide which offers fit, what they cost, or how soon they are expected to be ready."""


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
    on_this_machine: bool = False
    """Whether the market rents out the machine that the run is on, and ends with the run."""

    @classmethod
    def under(
        cls,
        settings: Settings,
        workload: Workload,
        workload_key: str,
        reputation: Reputation,
        now: float,
        failed_machines: frozenset[int] = frozenset(),
    ) -> OfferRequirements:
        """The requirements of a workload in a run with these settings."""
        return cls(
            workload,
            POLICIES[Strictness(settings.strictness)],
            settings.max_price,
            settings.exclude_countries,
            reputation,
            now,
            failed_machines,
            workload_key,
            on_this_machine=settings.backend == "local",
        )
