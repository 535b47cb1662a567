"""Caches the searches of one run: all threads share the answer to equal queries."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.admission import search_query
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.selection.ranking import Ranked
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.selection.search import admitted
from pytest_vastgpu.selection.search import find_offers

SHARED_S = 60.0
"""Seconds for which an answer is used again. If an offer was taken in that time, the create is refused, which costs
only the interval of 4.5 s between creates. A new search costs 2 s and up to 64 of the account's 20,000 rows a day.
Within a minute, the time of a failed boot, few offers change hands."""


@dataclass
class _Answer:
    """The newest answer to one query."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held during the search: threads with an equal query wait for its answer."""
    asked_at: float = -math.inf
    offers: Sequence[Offer] = ()


class SearchCache:
    """Finds offers and shares each answer for :data:`SHARED_S`. Any thread may use it.

    :param ask: Runs a search, as :meth:`pytest_vastgpu.providers.base.Provider.search`.
    :param clock: Seconds that only go forward.
    """

    def __init__(
        self, ask: Callable[[OfferQuery], Sequence[Offer]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[OfferQuery, _Answer] = {}

    def find(self, need: OfferRequirements, gone: Collection[int] = ()) -> list[Ranked]:
        """Admitted offers, best first. If a shared answer has none left, this searches again.

        :param gone: Ids of offers that others have taken. If all admitted offers are among them, the list is empty.
        :raises NoOffers: if nothing is admitted; the text says what would help.
        :raises MarketError: if the search fails.
        """
        now = self._clock()
        shared = self._search(search_query(need), now - SHARED_S)
        if left := _without(gone, admitted(shared, need)):
            return left
        return _without(gone, find_offers(lambda query: self._search(query, now), need))

    def seen(self, need: OfferRequirements) -> Sequence[Offer]:
        """The newest answer to the search for these requirements, admitted or not; the market is not asked."""
        with self._lock:
            answer = self._answers.get(search_query(need), _Answer())
        return answer.offers

    def _search(self, query: OfferQuery, since: float) -> Sequence[Offer]:
        """An answer that is not older than ``since``."""
        with self._lock:
            answer = self._answers.setdefault(query, _Answer())
        with answer.lock:
            if answer.asked_at < since:
                asked_at = self._clock()
                answer.offers = self._ask(query)
                answer.asked_at = asked_at
            return answer.offers


def _without(gone: Collection[int], found: Sequence[Ranked]) -> list[Ranked]:
    return [ranked for ranked in found if ranked.offer.id not in gone]
