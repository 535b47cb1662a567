from __future__ import annotations

from typing import TYPE_CHECKING

from places import allowed

if TYPE_CHECKING:
    from pytest_vastgpu import Offer
    from pytest_vastgpu import Workload


def pytest_vastgpu_modify_offers(offers: list[Offer], workload: Workload) -> None:
    """What strictness admits comes in, best first; what may be rented stays."""
    offers[:] = filter(allowed, offers)
