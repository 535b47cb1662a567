"""What reports need in the event log, as JSON values: offers, why they were not taken, verdicts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting.run.json_values import number
from pytest_vastgpu.reporting.sentences import gpus

if TYPE_CHECKING:  # a host has no use for them, and has them not
    from pytest_vastgpu.selection.admission import Dropped
    from pytest_vastgpu.selection.ranking import Ranked

MOST_OFFERS = 24
"""Most offers of each kind, admitted or not, that an event has; it counts the rest."""


def offer_facts(offer: Offer) -> dict[str, Any]:
    """An offer, as reports show it."""
    return {
        "id": offer.id,
        "machine": offer.machine_id,
        "gpu": gpus(offer.num_gpus, offer.gpu_name),
        "usd_h": number(offer.price_usd_h),
        "where": offer.geolocation,
    }


def verdict_facts(verdict: Verdict) -> dict[str, str]:
    """A verdict, with all that was decided."""
    return {
        "class": verdict.failure_class.value,
        "reason": verdict.reason,
        "evidence": verdict.evidence,
        "remedy": verdict.remedy,
    }


def considered_facts(
    workload: str, ranked: Sequence[Ranked], dropped: Sequence[Dropped], chosen: Iterable[Offer]
) -> dict[str, Any]:
    """The offers that were considered for a workload: the admitted ones in their order, and why others were not.

    :param ranked: The admitted ones, with what they are expected to cost.
    :param dropped: Those that the market has shown, and that do not meet a condition.
    :param chosen: The admitted ones in the order in which they are tried, after hooks of the user's.
    """
    by_id = {each.offer.id: each for each in ranked}
    order = list(chosen)
    left_out = by_id.keys() - {offer.id for offer in order}
    admitted = [
        {**offer_facts(offer), **(_expected(by_id[offer.id]) if offer.id in by_id else {})}
        for offer in order[:MOST_OFFERS]
    ]
    rejected = [
        *({**offer_facts(by_id[each].offer), "why": ["pytest_vastgpu_modify_offers"]} for each in sorted(left_out)),
        *(
            {**offer_facts(each.offer), "why": [condition.name for condition in each.failed]}
            for each in sorted(dropped, key=lambda each: (len(each.failed), each.offer.price_usd_h))
        ),
    ]
    return {
        "workload": workload,
        "admitted": admitted,
        "more_admitted": len(order) - len(admitted),
        "rejected": rejected[:MOST_OFFERS],
        "more_rejected": max(0, len(rejected) - MOST_OFFERS),
    }


def _expected(ranked: Ranked) -> dict[str, float]:
    return {
        "chance": round(number(ranked.chance), 3),
        "expected_s": round(number(ranked.seconds), 1),
        "expected_usd": round(number(ranked.expected_cost_usd), 6),
    }
