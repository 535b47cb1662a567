"""Searches the market for offers and returns the admitted ones in the order to try them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.admission import admissible
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.admission import near_queries
from pytest_vastgpu.selection.admission import search_query
from pytest_vastgpu.selection.admission import wide_query
from pytest_vastgpu.selection.admission import widest_query
from pytest_vastgpu.selection.explanation import Change
from pytest_vastgpu.selection.explanation import Removed
from pytest_vastgpu.selection.explanation import changes
from pytest_vastgpu.selection.explanation import explain_no_offers
from pytest_vastgpu.selection.explanation import removed
from pytest_vastgpu.selection.explanation import why_none
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.ranking import RENTED
from pytest_vastgpu.selection.ranking import THIS_MACHINE
from pytest_vastgpu.selection.ranking import Ranked
from pytest_vastgpu.selection.ranking import rank
from pytest_vastgpu.selection.requirements import OfferRequirements


def admitted(offers: Iterable[Offer], need: OfferRequirements) -> list[Ranked]:
    """The admitted offers among the given ones, best first."""
    prior = THIS_MACHINE if need.on_this_machine else RENTED
    return rank(admissible(offers, need), need.workload, need.policy, need.reputation, prior)


_QUERIES = (search_query, wide_query, widest_query)
"""From narrow to wide."""
_CHANGES = 3
"""Most changes that a survey names."""


@dataclass(frozen=True)
class Survey:
    """What the market has for a workload, and why it has no more."""

    ranked: tuple[Ranked, ...]
    """Admitted offers in the order in which they are tried."""
    seen: int
    """How many offers were looked at."""
    removed: tuple[Removed, ...]
    """What each condition removed."""
    changes: tuple[Change, ...]
    """The smallest changes that would admit an offer, the nearest first. Where some are admitted: one that is cheaper
    than all of them, and on which the workload can run as it is."""
    why_none: str
    """Why nothing is admitted; empty if something is."""


def survey(search: Callable[[OfferQuery], Sequence[Offer]], need: OfferRequirements) -> Survey:
    """The offers that :func:`find_offers` finds, and what becomes of all others that the market shows.

    It begins with the widest search, since an offer that the market itself filters out can only be counted if it is
    seen, and narrows it as long as the market has more offers than it shows at once. Pass a search that remembers its
    answers where several workloads are surveyed: :func:`remembering`.

    :raises MarketError: if the market cannot be asked.
    """
    answers: list[Sequence[Offer]] = []
    for build in reversed(_QUERIES):
        query = build(need)
        answers.insert(0, search(query))
        if len(answers[0]) < query.limit:
            break  # that is all there is: a narrower search would find nothing new
    ranked = next(filter(None, (admitted(found, need) for found in answers)), [])
    if not ranked and len(answers) > 1:
        *_, wide, _ = answers
        if not wide or len(wide) >= query.limit:
            answers += map(search, near_queries(need, hardware=not wide))
    seen = list({offer.id: offer for found in answers for offer in found}.values())
    dropped = admit(seen, need).dropped
    if ranked:
        least_usd_h = min(hourly_usd(each.offer, need.workload) for each in ranked)
        fitting = [one for one in dropped if not any(condition.hardware for condition in one.failed)]
        better = changes(fitting, need, _CHANGES, below_usd_h=least_usd_h)
    else:
        better = changes(dropped, need, _CHANGES)
    return Survey(
        tuple(ranked),
        len(seen),
        tuple(removed(dropped, need)),
        tuple(better),
        "" if ranked else why_none(seen, need),
    )


def remembering(search: Callable[[OfferQuery], Sequence[Offer]]) -> Callable[[OfferQuery], Sequence[Offer]]:
    """A search that asks the market only once for each query."""
    return cache(search)


def find_offers(search: Callable[[OfferQuery], Sequence[Offer]], need: OfferRequirements) -> list[Ranked]:
    """Admitted offers, best first; at least one.

    Usually one search is enough. If it gives no admitted offer, wider searches follow until one finds offers: they show
    which condition removed the offers, and the market's own filter may have been wrong.

    :param search: As :meth:`pytest_vastgpu.providers.base.Provider.search`.
    :raises NoOffers: if nothing is admitted; the text says what would help.
    :raises MarketError: if the market cannot be asked.
    """
    seen: dict[int, Offer] = {}
    for build in _QUERIES:
        query = build(need)
        found = search(query)
        if kept := admitted(found, need):
            return kept
        seen.update((offer.id, offer) for offer in found)
        if found and build is not search_query:
            break
    if len(found) >= query.limit:  # there are more, and some may be nearer to what is wanted
        for query in near_queries(need, hardware=build is widest_query):
            seen.update((offer.id, offer) for offer in search(query))
    raise NoOffers(explain_no_offers(list(seen.values()), need))
