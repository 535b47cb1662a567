"""The conditions on an offer, one table row each. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from operator import attrgetter

from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.bans import ban_in_force
from pytest_vastgpu.selection.country import country
from pytest_vastgpu.selection.gpu_names import spelling
from pytest_vastgpu.selection.offer_query import OfferFilter
from pytest_vastgpu.selection.pricing import hourly_price
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.relaxation import Relaxation
from pytest_vastgpu.selection.relaxation import dearer
from pytest_vastgpu.selection.relaxation import in_workload
from pytest_vastgpu.selection.relaxation import looser
from pytest_vastgpu.selection.relaxation import other_gpu
from pytest_vastgpu.selection.relaxation import without_country
from pytest_vastgpu.selection.requirements import OfferRequirements

_DURATION_FACTOR = 2.0
"""An offer must last this many times the expected use, because an instance is stopped when its offer ends."""

Test = Callable[[Offer], bool]
Relax = Callable[[Offer, OfferRequirements], Relaxation | None]


def no_way(_offer: Offer, _need: OfferRequirements) -> Relaxation | None:
    """The relaxation of a condition that cannot be relaxed."""
    return None


@dataclass(frozen=True)
class OfferCondition:
    """One condition on an offer."""

    name: str
    wants: Callable[[OfferRequirements], str]
    """The required value, in words."""
    has: Callable[[Offer, OfferRequirements], str]
    """The offer's value, in words."""
    test: Callable[[OfferRequirements], Test | None]
    """Builds the test once per search, to be run on many thousand offers; None if the condition does not apply."""
    filter: Callable[[OfferRequirements], OfferFilter | None] = lambda _: None
    """The condition as a provider's filter; None if only this package can check it, or it does not apply."""
    relax: Relax = no_way
    """What would admit the offer; None if nothing can. One change may relax several conditions."""
    hardware: bool = False
    """Whether the workload cannot run without it."""
    tells: bool = False
    """Whether the counts also list the offers' values, because a reader could not guess them."""

    def holds(self, offer: Offer, need: OfferRequirements) -> bool:
        """Whether one offer meets the condition."""
        test = self.test(need)
        return test is None or test(offer)


def _at_least(
    name: str,
    unit: str,
    wanted: Callable[[OfferRequirements], float],
    had: Callable[[Offer], float],
    field: str,
    relax: Relax,
    *,
    scale: float = 1.0,
    hardware: bool = False,
) -> OfferCondition:
    """A condition that a number is not below a limit.

    :param field: The offer's field with the number.
    :param scale: How many of the field's units make one of the condition's.
    """

    def test(need: OfferRequirements) -> Test | None:
        least = wanted(need)
        return (lambda offer: had(offer) >= least) if least > 0 else None

    return OfferCondition(
        name,
        wants=lambda need: f"at least {wanted(need):g}{unit}",
        has=lambda offer, _: f"{had(offer):g}{unit}",
        test=test,
        filter=lambda need: OfferFilter(field, ">=", wanted(need) * scale) if wanted(need) > 0 else None,
        relax=relax,
        hardware=hardware,
    )


def _hardware(
    argument: str,
    unit: str,
    wanted: Callable[[OfferRequirements], float],
    had: Callable[[Offer], float],
    field: str,
    scale: float,
) -> OfferCondition:
    relax = in_workload(argument, wanted, had)
    return _at_least(argument, unit, wanted, had, field, relax, scale=scale, hardware=True)


def _gpu(wanted: Callable[[Workload], float]) -> Callable[[OfferRequirements], float]:
    """A requirement on GPU hardware; it is 0 for a workload that uses no GPU."""
    return lambda need: wanted(need.workload) if need.workload.gpus else 0.0


def _same_gpu(need: OfferRequirements) -> Test | None:
    if not (need.workload.gpus and need.workload.gpu_name):
        return None
    wanted = spelling(need.workload.gpu_name).lower()
    return lambda offer: spelling(offer.gpu_name).lower() == wanted


def _elsewhere(need: OfferRequirements) -> Test | None:
    excluded = need.excluded_countries
    return (lambda offer: country(offer) not in excluded) if excluded else None


def _affordable(need: OfferRequirements) -> Test:
    price, limit = hourly_price(need.workload), need.max_price_usd_h
    return lambda offer: price(offer) <= limit


def _longest_use_s(offer: Offer) -> int:
    return math.floor(offer.duration_s / _DURATION_FACTOR)


def for_shorter_use(offer: Offer, need: OfferRequirements) -> OfferRequirements:
    """The requirements with a use as short as the offer needs it; a transfer then costs more an hour."""
    use_s = _longest_use_s(offer)
    if not 0 < use_s < need.workload.expected_use_s:
        return need
    return replace(need, workload=replace(need.workload, expected_use_s=use_s))


def ban(offer: Offer, need: OfferRequirements) -> str:
    """Why the machine is banned now; empty if it is not."""
    found = ban_in_force(need.reputation, offer.machine_id, offer.host_id, need.now)
    return f"{found.of} is banned ({found.reason or 'no reason given'})" if found else ""


def _compatible(need: OfferRequirements) -> Test:
    machines, kinds, key = need.reputation.machines, need.reputation.incompatible_kinds, need.workload_key

    def test(offer: Offer) -> bool:
        machine = machines.get(offer.machine_id)
        return not (machine and key in machine.incompatible) and (offer.gpu_name, key) not in kinds

    return test


CONDITIONS: tuple[OfferCondition, ...] = (
    OfferCondition(
        "gpus",
        wants=lambda need: f"at least {need.workload.gpus}",
        has=lambda offer, _: str(offer.num_gpus),
        test=lambda need: (lambda offer: offer.num_gpus >= need.workload.gpus) if need.workload.gpus else None,
        filter=lambda need: OfferFilter("num_gpus", ">=", need.workload.gpus) if need.workload.gpus else None,
        relax=in_workload("gpus", lambda need: need.workload.gpus, lambda offer: offer.num_gpus),
        hardware=True,
    ),
    OfferCondition(
        "gpu_name",
        wants=lambda need: spelling(need.workload.gpu_name),
        has=lambda offer, _: offer.gpu_name or "no GPU",
        test=_same_gpu,
        filter=lambda need: (
            OfferFilter("gpu_name", "==", spelling(need.workload.gpu_name))
            if need.workload.gpus and need.workload.gpu_name
            else None
        ),
        relax=other_gpu,
        hardware=True,
    ),
    # The market gives VRAM in MB, and a 24 GB card as about 24,500: so 1 GB counts as 1000 MB.
    _hardware(
        "gpu_ram_gb",
        " GB",
        _gpu(lambda work: work.gpu_ram_gb),
        lambda offer: offer.gpu_ram_mb / 1000,
        "gpu_ram_mb",
        1000,
    ),
    _hardware(
        "compute_cap", "", _gpu(lambda work: work.compute_cap), lambda offer: offer.compute_cap, "compute_cap", 1
    ),
    _hardware("cuda", "", _gpu(lambda work: work.cuda), lambda offer: offer.cuda_max_good, "cuda_max_good", 1),
    _hardware(
        "disk_gb", " GB", lambda need: need.workload.disk_gb, lambda offer: offer.disk_space_gb, "disk_space_gb", 1
    ),
    OfferCondition(
        "rentable",
        wants=lambda _: "rentable now",
        has=lambda *_: "not rentable",
        test=lambda _: attrgetter("rentable"),
        filter=lambda _: OfferFilter("rentable", "==", True),
    ),
    OfferCondition(
        "rented",
        wants=lambda _: "not rented by others",
        has=lambda *_: "rented",
        test=lambda _: lambda offer: not offer.rented,
        filter=lambda _: OfferFilter("rented", "==", False),
    ),
    OfferCondition(
        "on_demand",
        wants=lambda _: "on demand",
        has=lambda *_: "interruptible",
        test=lambda _: lambda offer: not offer.is_bid,
    ),
    OfferCondition(
        "verified",
        wants=lambda _: "verified by the market",
        has=lambda *_: "not verified",
        test=lambda _: attrgetter("verified"),
        filter=lambda _: OfferFilter("verified", "==", True),
    ),
    _at_least(
        "duration",
        " s",
        lambda need: _DURATION_FACTOR * need.workload.expected_use_s,
        lambda offer: offer.duration_s,
        "duration_s",
        in_workload(
            "expected_use_s",
            lambda need: need.workload.expected_use_s,
            _longest_use_s,
        ),
    ),
    _at_least(
        "reliability", "", lambda need: need.policy.reliability, lambda offer: offer.reliability, "reliability", looser
    ),
    _at_least(
        "direct_ports",
        "",
        lambda need: need.policy.direct_ports,
        lambda offer: offer.direct_port_count,
        "direct_port_count",
        looser,
    ),
    _at_least(
        "download",
        " Mbps",
        lambda need: need.policy.inet_down_mbps,
        lambda offer: offer.inet_down_mbps,
        "inet_down_mbps",
        looser,
    ),
    OfferCondition(
        "country",
        wants=lambda need: f"not in {', '.join(sorted(need.excluded_countries))}",
        has=lambda offer, _: offer.geolocation,
        test=_elsewhere,
        filter=lambda need: (
            OfferFilter("geolocation", "not in", tuple(sorted(need.excluded_countries)))
            if need.excluded_countries
            else None
        ),
        relax=without_country,
    ),
    OfferCondition(
        "money",
        wants=lambda _: "amounts of money that can be true",
        has=lambda offer, _: offer.incredible,
        test=lambda _: lambda offer: not offer.incredible,
        tells=True,
    ),
    OfferCondition(
        "price",
        wants=lambda need: f"at most {need.max_price_usd_h:.2f} USD/h with disk and transfer",
        has=lambda offer, need: f"{hourly_usd(offer, need.workload):.2f} USD/h",
        test=_affordable,
        filter=lambda need: OfferFilter("price_usd_h", "<=", need.max_price_usd_h),
        relax=dearer,
    ),
    OfferCondition(
        "banned",
        wants=lambda _: "a machine that is not banned",
        has=ban,
        test=lambda need: lambda offer: not ban(offer, need),
        relax=lambda offer, _: Relaxation(2, f"`vastgpu hosts allow {offer.machine_id}`"),
    ),
    OfferCondition(
        "failed_before",
        wants=lambda _: "a machine that has not failed in this run",
        has=lambda offer, _: f"machine {offer.machine_id} failed in this run",
        test=lambda need: lambda offer: offer.machine_id not in need.failed_machines,
    ),
    OfferCondition(
        "incompatible",
        wants=lambda _: "a machine that can run this workload",
        has=lambda offer, _: f"the workload failed on this {offer.gpu_name or 'machine'} before",
        test=_compatible,
    ),
)
