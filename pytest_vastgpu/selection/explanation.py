"""Explains which offers are not admitted, and what would help. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.admission import Dropped
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.conditions import CONDITIONS
from pytest_vastgpu.selection.conditions import for_shorter_use
from pytest_vastgpu.selection.gpu_names import KNOWN
from pytest_vastgpu.selection.gpu_names import nearest
from pytest_vastgpu.selection.gpu_names import spelling
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.relaxation import Relaxation
from pytest_vastgpu.selection.relaxation import typed
from pytest_vastgpu.selection.requirements import OfferRequirements

_TOLD = 3
"""Most different values that are listed for one condition."""


class Removed(NamedTuple):
    """How many offers one condition removed. An offer that fails several conditions counts for each."""

    condition: str
    offers: int
    wanted: str
    """The required value, in words."""
    had: str
    """The offers' values, in words, where a reader could not guess them."""

    def __str__(self) -> str:
        told = f", not: {self.had}" if self.had else ""
        return f"{self.offers} by {self.condition}: {self.wanted} is wanted{told}"


class Change(NamedTuple):
    """What to change so that an offer is admitted."""

    steps: tuple[str, ...]
    """The options and arguments to type, all of them together."""
    offer: Offer
    hourly_usd: float
    """See :func:`~pytest_vastgpu.selection.pricing.hourly_usd`."""

    def __str__(self) -> str:
        return (
            f"{' with '.join(self.steps)} would admit machine {self.offer.machine_id} "
            f"({self.offer.gpu_name or 'no GPU'}) at {self.hourly_usd:.2f} USD/h"
        )


def explain_no_offers(offers: Sequence[Offer], need: OfferRequirements) -> str:
    """A first line with what would help, then how many offers each condition removed.

    :param offers: All offers found, also by wider searches; none of them may be admitted.
    """
    if lacking := _lacking(offers, need):
        return f"no offers: {lacking}"
    dropped = admit(offers, need).dropped
    told = [_misspelt(offers, need), *map(str, changes(dropped, need, 1))]
    first = "; ".join(filter(None, told)) or _hopeless(dropped, need)
    of = f"of {len(dropped)} offers (one can fail several conditions):" if len(dropped) > 1 else "the only offer:"
    return "\n".join([f"no offers: {first}", of, *(f"  {each}" for each in removed(dropped, need))])


def _hopeless(dropped: Sequence[Dropped], need: OfferRequirements) -> str:
    """What to say where no change would admit an offer."""
    machines = {one.offer.machine_id for one in dropped}
    if machines <= need.failed_machines:
        return f"{'the only machine' if len(machines) == 1 else 'every machine'} has failed in this run already"
    return "none fits, and no option would change that"


def why_none(offers: Sequence[Offer], need: OfferRequirements) -> str:
    """Why none of these offers is admitted, in a sentence that goes without counts and changes."""
    told = _lacking(offers, need) or _misspelt(offers, need)
    dropped = admit(offers, need).dropped
    return told or ("none fits" if changes(dropped, need, 1) else _hopeless(dropped, need))


def _lacking(offers: Sequence[Offer], need: OfferRequirements) -> str:
    """What the market does not have at all; empty if that is not the reason."""
    if not offers:
        return "the market has nothing to rent now; try again later, or see whether VAST_URL is right"
    if need.workload.gpus and not any(offer.num_gpus for offer in offers):
        is_host = need.workload.adapter == HOST
        whose, who = ("each host needs", "the tests") if is_host else ("the workload needs", "it")
        return (
            f"nothing on this market has a GPU, and {whose} {need.workload.gpus}; "
            f"set {typed(need.workload, 'gpus', '0')} if {who} can do without, or VAST_API_KEY to rent from Vast.ai"
        )
    return ""


def _misspelt(offers: Sequence[Offer], need: OfferRequirements) -> str:
    """The nearest GPU names, if no offer has the one that is wanted."""
    wanted, seen = spelling(need.workload.gpu_name), {offer.gpu_name for offer in offers}
    if not need.workload.gpus or not wanted or wanted.lower() in map(str.lower, seen):
        return ""
    unlike = "" if wanted in KNOWN else f", and none that we know; the nearest are {', '.join(nearest(wanted, seen))}"
    return f"no GPU on offer is called {wanted!r}{unlike}"


def changes(
    dropped: Iterable[Dropped], need: OfferRequirements, most: int, *, below_usd_h: float = float("inf")
) -> list[Change]:
    """The smallest changes that would admit an offer, the nearest first; each relaxes other requirements.

    One that relaxes more than a nearer one must lead to a lower price.

    :param below_usd_h: Only offers that cost less an hour are worth a change.
    """
    ways = [
        (sum(step.distance for step in way), Change(tuple(step.text for step in way), one.offer, usd_h))
        for one in dropped
        if (usd_h := hourly_usd(one.offer, for_shorter_use(one.offer, need).workload)) < below_usd_h
        if (way := _way(one, need))
    ]
    ways.sort(key=lambda way: (way[0], way[1].hourly_usd))
    nearest_of: dict[frozenset[str], Change] = {}
    for _, change in ways:
        relaxed = frozenset(step.partition("=")[0] for step in change.steps)
        if not any(other <= relaxed and nearer.hourly_usd <= change.hourly_usd for other, nearer in nearest_of.items()):
            nearest_of.setdefault(relaxed, change)
    return list(nearest_of.values())[:most]


def _way(one: Dropped, need: OfferRequirements) -> list[Relaxation]:
    """Everything that must be relaxed to admit this offer; empty if that is impossible."""
    if one.offer.incredible:
        return []  # an impossible amount is infinite, so there is nothing to compare
    shorter = for_shorter_use(one.offer, need)
    then = [condition for again in admit([one.offer], shorter).dropped for condition in again.failed]
    failed = [condition for condition in CONDITIONS if condition in one.failed or condition in then]
    steps = [condition.relax(one.offer, shorter if condition in then else need) for condition in failed]
    # One looser level can remove several conditions: it counts once.
    return list(dict.fromkeys(step for step in steps if step)) if all(steps) else []


def removed(dropped: Sequence[Dropped], need: OfferRequirements) -> Iterator[Removed]:
    """What each condition removed, in the order of the conditions; those that removed nothing are left out."""
    counts = Counter(condition.name for one in dropped for condition in one.failed)
    for condition in CONDITIONS:
        if count := counts[condition.name]:
            had = {condition.has(one.offer, need) for one in dropped if condition in one.failed}
            told = "; ".join(sorted(had)[:_TOLD]) if condition.tells else ""
            yield Removed(condition.name, count, condition.wants(need), told)
