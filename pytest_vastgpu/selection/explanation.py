"""Explains why no offer is admitted, and what would help. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence

from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.admission import Dropped
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.conditions import CONDITIONS
from pytest_vastgpu.selection.gpu_names import KNOWN
from pytest_vastgpu.selection.gpu_names import nearest
from pytest_vastgpu.selection.gpu_names import spelling
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.relaxation import Relaxation
from pytest_vastgpu.selection.requirements import OfferRequirements

_TOLD = 3
"""Most different values that are listed for one condition."""


def explain_no_offers(offers: Sequence[Offer], need: OfferRequirements) -> str:
    """A first line with what would help, then how many offers each condition removed.

    :param offers: All offers found, also by wider searches; none of them may be admitted.
    """
    if not offers:
        return "no offers: the market has nothing to rent now; try again later, or see whether VAST_URL is right"
    if need.workload.gpus and not any(offer.num_gpus for offer in offers):
        return (
            f"no offers: nothing on this market has a GPU, and the workload needs {need.workload.gpus}; "
            "set gpus=0 in the workload if it can do without, or VAST_API_KEY to rent from Vast.ai"
        )
    dropped = admit(offers, need).dropped
    told = [_misspelt(offers, need), _nearest(dropped, need)]
    first = "; ".join(filter(None, told)) or "none fits, and no option would change that"
    return "\n".join([f"no offers: {first}", *_counts(dropped, need)])


def _misspelt(offers: Sequence[Offer], need: OfferRequirements) -> str:
    """The nearest GPU names, if no offer has the one that is wanted."""
    wanted, seen = spelling(need.workload.gpu_name), {offer.gpu_name for offer in offers}
    if not need.workload.gpus or not wanted or wanted.lower() in map(str.lower, seen):
        return ""
    unlike = "" if wanted in KNOWN else f", and none that we know; the nearest are {', '.join(nearest(wanted, seen))}"
    return f"no GPU on offer is called {wanted!r}{unlike}"


def _nearest(dropped: Iterable[Dropped], need: OfferRequirements) -> str:
    ways = [(way, one.offer) for one in dropped if (way := _way(one, need))]
    if not ways:
        return ""
    way, offer = min(
        ways, key=lambda pair: (sum(step.distance for step in pair[0]), hourly_usd(pair[1], need.workload))
    )
    return (
        f"{' with '.join(step.text for step in way)} would admit machine {offer.machine_id} "
        f"({offer.gpu_name or 'no GPU'}) at {hourly_usd(offer, need.workload):.2f} USD/h"
    )


def _way(one: Dropped, need: OfferRequirements) -> list[Relaxation]:
    """Everything that must be relaxed to admit this offer; empty if that is impossible."""
    if one.offer.incredible:
        return []  # an impossible amount is infinite, so there is nothing to compare
    steps = [condition.relax(one.offer, need) for condition in one.failed]
    # One looser level can remove several conditions: it counts once.
    return list(dict.fromkeys(step for step in steps if step)) if all(steps) else []


def _counts(dropped: Sequence[Dropped], need: OfferRequirements) -> Iterable[str]:
    counts = Counter(condition.name for one in dropped for condition in one.failed)
    yield f"of {len(dropped)} offers (one can fail several conditions):" if len(dropped) > 1 else "the only offer:"
    for condition in CONDITIONS:
        if count := counts[condition.name]:
            has = "; ".join(
                sorted({condition.has(one.offer, need) for one in dropped if condition in one.failed})[:_TOLD]
            )
            told = f", not: {has}" if condition.tells else ""
            yield f"  {count} by {condition.name}: {condition.wants(need)} is wanted{told}"
