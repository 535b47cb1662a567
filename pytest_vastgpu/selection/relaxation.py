"""The ways to relax the requirements so that an offer is admitted, as text that the user can type."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from pytest_vastgpu.core.text.nearest import likeness
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.country import country
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.settings import HOST_FIELDS
from pytest_vastgpu.settings import HOST_OPTIONS

IN_WORKLOAD = " in the workload"
"""The end of a text that is an argument of the workload, and no option."""
_IN_MARK = " in the mark vast"
"""The same for a host that tests run on: there is no workload that a person has written."""


class Relaxation(NamedTuple):
    """One requirement to relax for an offer."""

    distance: float
    """How much is relaxed: the whole part is the kind of requirement, the fraction the distance from the limit."""
    text: str
    """The option or argument to type."""


def typed(workload: Workload, argument: str, value: str) -> str:
    """An argument of the workload as it is to be typed. For a host that tests run on it is an option."""
    if workload.adapter != HOST:
        return f"{argument}={value}{IN_WORKLOAD}"
    option = next((each for each in HOST_OPTIONS if HOST_FIELDS.get(each.field) == argument), None)
    return f"{option.flag}={value}" if option else f"{argument}={value}{_IN_MARK}"


def in_workload(
    argument: str, wanted: Callable[[OfferRequirements], float], had: Callable[[Offer], float]
) -> Callable[[Offer, OfferRequirements], Relaxation | None]:
    """Lower a number of the workload, but never to 0."""

    def relax(offer: Offer, need: OfferRequirements) -> Relaxation | None:
        least = math.floor(had(offer) * 10) / 10
        if least <= 0:
            return None
        return Relaxation(3 + (1 - least / wanted(need)), typed(need.workload, argument, f"{least:.10g}"))

    return relax


def looser(offer: Offer, need: OfferRequirements) -> Relaxation | None:
    """The strictest level that is looser than this one and that the offer meets."""
    levels = list(POLICIES.values())
    below = [policy for policy in levels if policy.reliability < need.policy.reliability]
    for steps, policy in enumerate(below):
        if (
            offer.reliability >= policy.reliability
            and offer.direct_port_count >= policy.direct_ports
            and offer.inet_down_mbps >= policy.inet_down_mbps
        ):
            return Relaxation(1 + steps / len(levels), f"--vast-strictness={policy.strictness.value}")
    return None


def dearer(offer: Offer, need: OfferRequirements) -> Relaxation:
    """A price limit that the offer meets."""
    usd_h = hourly_usd(offer, need.workload)
    cents = math.ceil(usd_h * 100)
    price = min(each / 100 for each in (cents - 1, cents) if each / 100 >= usd_h)  # 1.1 * 100 is above 110
    return Relaxation(1 + (1 - need.max_price_usd_h / price), f"--vast-max-price={price:.2f}")


def other_gpu(offer: Offer, need: OfferRequirements) -> Relaxation:
    """The GPU kind of this offer; one whose name is like the name that is wanted is near."""
    unlike = 1 - likeness(need.workload.gpu_name, offer.gpu_name)
    return Relaxation(4 + min(unlike, 0.99), typed(need.workload, "gpu_name", f'"{offer.gpu_name}"'))


def without_country(offer: Offer, need: OfferRequirements) -> Relaxation:
    """The excluded countries without the offer's own."""
    rest = ",".join(sorted(need.excluded_countries - {country(offer)})) or "none"
    return Relaxation(2, f"--vast-exclude-countries={rest}")
