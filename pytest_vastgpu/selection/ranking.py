"""Ranks the admitted offers in the order in which they are tried. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.model import HostRecord
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.selection.requirements import image_key
from pytest_vastgpu.selection.strictness import Policy

_PRIOR_WEIGHT = 2.0
"""Number of a machine's own starts that weigh as much as the assumption about it."""
_HOST_WEIGHT = 1.0
"""Most starts that the operator's other machines count for, all together."""
_LEAST_RELIABILITY = 0.5
"""A lower reliability is treated as this value."""

_BITS_PER_GB = 8000.0  # in megabits
_FASTEST = 0.5
"""A machine's own times can at most halve its expected time, so that its record does not shut out all newcomers."""


class Prior(NamedTuple):
    """What is expected of a machine without any record."""

    chance: float
    """Share of starts that succeed where the reliability is perfect."""
    boot_s: float
    """Seconds from create to a running container, without the download."""
    server_start_s: float
    """Approximate seconds from weights on the disk to the first answer, for a small model."""
    pulls: bool = True
    """Whether images are downloaded."""


RENTED = Prior(chance=0.8, boot_s=180.0, server_start_s=90.0)
"""Of a machine that somebody rents out. The chance is an assumption: reliability measures uptime, and a machine can be
up with a broken driver or network. The boot is the middle of Vast's documented 1 to 5 minutes."""
THIS_MACHINE = Prior(chance=0.99, boot_s=1.0, server_start_s=1.0, pulls=False)
"""Of the machine that a run is on: processes are started there, and no image is pulled."""


class Ranked(NamedTuple):
    """An offer with the numbers that decide its rank."""

    offer: Offer
    expected_cost_usd: float
    """USD until an endpoint is ready, failed starts included."""
    chance: float
    """Probability that a start on this machine succeeds, 0 to 1."""
    seconds: float
    """Expected seconds from create to ready."""
    record: MachineRecord | None

    @property
    def why(self) -> str:
        """The numbers behind the rank, in words."""
        known = (
            f"{self.record.successes:g} successes and {self.record.infra_failures:g} infra failures on record"
            if self.record
            else "nothing on record"
        )
        return (
            f"{self.expected_cost_usd:.4f} USD until ready: {self.offer.price_usd_h:.3f} USD/h for about "
            f"{self.seconds:.0f} s, {self.chance:.0%} chance ({known})"
        )


def rank(
    offers: Iterable[Offer], workload: Workload, policy: Policy, reputation: Reputation, prior: Prior = RENTED
) -> list[Ranked]:
    """Offers in the order to try them.

    With ``by_record``: by the expected cost until an endpoint is ready, which is price and transfer divided by the
    chance. A machine's record changes chance and time only within bounds, so an unknown machine gets its turn if it is
    cheap enough or the known ones are gone. Otherwise by price alone, transfer included.
    """
    ranked = [_expect(offer, workload, reputation, prior) for offer in offers]
    if policy.by_record:
        ranked.sort(key=lambda one: (one.expected_cost_usd, -one.chance, one.offer.machine_id, one.offer.id))
    else:
        ranked.sort(key=lambda one: (hourly_usd(one.offer, workload), one.expected_cost_usd, one.offer.id))
    return ranked


def chance(reliability: float, machine: MachineRecord | None, host: HostRecord | None, prior: Prior = RENTED) -> float:
    """The probability that a start succeeds: the mean of a Beta distribution over the record.

    The prior is the market's reliability, adjusted slightly by the record of the operator's other machines. Each start
    of the machine itself is then added.
    """
    mean = prior.chance * min(1.0, max(_LEAST_RELIABILITY, reliability))
    good, weight = mean * _PRIOR_WEIGHT, _PRIOR_WEIGHT
    own_good = machine.successes if machine else 0.0
    own_bad = machine.infra_failures if machine else 0.0
    if host:
        others_good = max(0.0, host.successes - own_good)
        others = others_good + max(0.0, host.infra_failures - own_bad)
        if others > 0:
            share = min(1.0, _HOST_WEIGHT / others)
            good, weight = good + share * others_good, weight + share * others
    return (good + own_good) / (weight + own_good + own_bad)


def seconds_to_ready(offer: Offer, workload: Workload, machine: MachineRecord | None, prior: Prior = RENTED) -> float:
    """Expected seconds from create to ready: from the download speed, and from the machine's own times.

    A machine that has booted this image lately need not pull it again.
    """
    booted_s = machine.boot_s.get(image_key(workload), 0.0) if machine is not None else 0.0
    download_gb = workload.model_gb + (workload.image_gb if prior.pulls and not booted_s else 0.0)
    download_s = download_gb * _BITS_PER_GB / max(offer.inet_down_mbps, 1.0)
    estimate = (min(booted_s, prior.boot_s) or prior.boot_s) + prior.server_start_s + download_s
    if machine is None or machine.successes <= 0 or machine.ready_s <= 0:
        return estimate
    learnt = (_PRIOR_WEIGHT * estimate + machine.successes * machine.ready_s) / (_PRIOR_WEIGHT + machine.successes)
    return max(learnt, _FASTEST * estimate)


def _expect(offer: Offer, workload: Workload, reputation: Reputation, prior: Prior) -> Ranked:
    machine = reputation.machines.get(offer.machine_id)
    likely = chance(offer.reliability, machine, reputation.hosts.get(offer.host_id), prior)
    seconds = seconds_to_ready(offer, workload, machine, prior)
    cost = (offer.price_usd_h * seconds / HOUR_S + transfer_usd(offer, workload)) / likely
    return Ranked(offer, cost, likely, seconds, machine)
