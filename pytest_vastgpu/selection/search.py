"""Searches the market for offers and returns the admitted ones in the order to try them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.admission import admissible
from pytest_vastgpu.selection.admission import search_query
from pytest_vastgpu.selection.admission import wide_query
from pytest_vastgpu.selection.admission import widest_query
from pytest_vastgpu.selection.explanation import explain_no_offers
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.selection.ranking import Ranked
from pytest_vastgpu.selection.ranking import rank
from pytest_vastgpu.selection.requirements import OfferRequirements


def admitted(offers: Iterable[Offer], need: OfferRequirements) -> list[Ranked]:
    """The admitted offers among the given ones, best first."""
    return rank(admissible(offers, need), need.workload, need.policy, need.reputation)


def find_offers(search: Callable[[OfferQuery], Sequence[Offer]], need: OfferRequirements) -> list[Ranked]:
    """Admitted offers, best first; at least one.

    Usually one search is enough. If it gives no admitted offer, wider searches follow until one finds offers: they show
    which condition removed the offers, and the market's own filter may have been wrong.

    :param search: As :meth:`pytest_vastgpu.providers.base.Provider.search`.
    :raises NoOffers: if nothing is admitted; the text says what would help.
    :raises MarketError: if the market cannot be asked.
    """
    seen: dict[int, Offer] = {}
    for query in (search_query, wide_query, widest_query):
        found = search(query(need))
        if kept := admitted(found, need):
            return kept
        seen.update((offer.id, offer) for offer in found)
        if found and query is not search_query:
            break
    raise NoOffers(explain_no_offers(list(seen.values()), need))
