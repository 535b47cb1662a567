"""Computes the bill of an instance. Pure.

The rules are those of Vast's billing documentation: the GPU is charged by the second while the instance runs (not
while it loads), storage by the second from creation to destruction in every state but offline, traffic by the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.core.text.durations import HOUR_S

HOURS_PER_MONTH = 720
"""Vast's own conversion of a monthly storage price."""

_GPU_STATES = frozenset({"running", "frozen"})
_FREE_OF_STORAGE = frozenset({"offline"})


@dataclass(frozen=True)
class Rates:
    """The prices of an instance that never change; the price of its GPUs is part of each :class:`Change`."""

    storage_usd_gb_month: float
    disk_gb: float
    inet_down_usd_gb: float
    inet_up_usd_gb: float

    @property
    def storage_usd_h(self) -> float:
        return self.storage_usd_gb_month * self.disk_gb / HOURS_PER_MONTH


@dataclass(frozen=True)
class Change:
    """The start of a state or of a price."""

    at: float
    """Epoch seconds."""
    state: str
    gpu_usd_h: float


@dataclass(frozen=True)
class Bill:
    """The costs of an instance up to a moment, in USD."""

    gpu_usd: float
    storage_usd: float
    transfer_usd: float
    gpu_seconds: float
    storage_seconds: float

    @property
    def total_usd(self) -> float:
        return self.gpu_usd + self.storage_usd + self.transfer_usd


def bill(rates: Rates, changes: Sequence[Change], until: float, down_gb: float = 0.0, up_gb: float = 0.0) -> Bill:
    """Compute the bill up to a moment.

    :param changes: Oldest first; the first is the creation.
    :param until: Epoch seconds: now, or the time of the destruction.
    """
    ends = [change.at for change in changes[1:]] + [until]
    gpu_s = gpu_usd = storage_s = 0.0
    for change, end in zip(changes, ends, strict=True):
        # A clock that was set back must not lower the bill.
        seconds = max(0.0, end - change.at)
        if change.state in _GPU_STATES:
            gpu_s += seconds
            gpu_usd += seconds * change.gpu_usd_h / HOUR_S
        storage_s += 0.0 if change.state in _FREE_OF_STORAGE else seconds
    return Bill(
        gpu_usd=gpu_usd,
        storage_usd=storage_s * rates.storage_usd_h / HOUR_S,
        transfer_usd=down_gb * rates.inet_down_usd_gb + up_gb * rates.inet_up_usd_gb,
        gpu_seconds=gpu_s,
        storage_seconds=storage_s,
    )
