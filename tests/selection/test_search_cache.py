from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.admission import search_query
from pytest_vastgpu.selection.admission import wide_query
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.selection.search_cache import SHARED_S
from pytest_vastgpu.selection.search_cache import SearchCache
from tests.selection.values import need
from tests.selection.values import offer
from tests.selection.values import workload

NEED = need()


class Market:
    """Gives what is on offer now, and keeps what it was asked; its clock only moves when the test says so."""

    def __init__(self, *on_offer: Offer) -> None:
        self.on_offer = list(on_offer)
        self.asked: list[OfferQuery] = []
        self.now = 1000.0
        self.searches = SearchCache(self.search, lambda: self.now)

    def search(self, query: OfferQuery) -> Sequence[Offer]:
        self.asked.append(query)
        return tuple(self.on_offer)


CHEAP, DEAR = offer(id=1, machine_id=1, price_usd_h=0.2), offer(id=2, machine_id=2, price_usd_h=0.4)


def ids(market: Market, wanted: object = NEED, gone: Sequence[int] = ()) -> list[int]:
    assert isinstance(wanted, type(NEED))
    return [ranked.offer.id for ranked in market.searches.find(wanted, gone)]


def test_equal_searches_are_made_once_for_a_while() -> None:
    market = Market(CHEAP, DEAR)
    assert ids(market) == [1, 2]
    market.on_offer = [DEAR]
    market.now += SHARED_S
    assert ids(market) == [1, 2]
    assert len(market.asked) == 1
    market.now += 1
    assert ids(market) == [2]
    assert market.asked == [search_query(NEED)] * 2


def test_workloads_share_where_they_need_the_same_of_a_machine() -> None:
    """What a server is called, and how large its model is, does not enter the query; but it does enter the ranking."""
    market = Market(replace(CHEAP, inet_down_usd_gb=0.05), DEAR)
    assert ids(market) == [1, 2]
    assert ids(market, need(workload(model="another", args=("--x",), model_gb=4))) == [2, 1]
    assert len(market.asked) == 1
    ids(market, need(workload(disk_gb=64)))
    ids(market, need(workload(gpu_ram_gb=20)))
    assert len(market.asked) == 3


def test_a_retry_takes_the_same_answer_without_the_machine_that_failed() -> None:
    market = Market(CHEAP, DEAR)
    ids(market)
    assert ids(market, need(failed_machines=frozenset({1}))) == [2]
    assert ids(market, gone=[1]) == [2]
    assert len(market.asked) == 1


@pytest.mark.parametrize("by", ["failed", "gone"])
def test_what_leaves_nothing_of_an_answer_is_asked_anew(by: str) -> None:
    market = Market(CHEAP)
    ids(market)
    market.now += 5
    market.on_offer = [CHEAP, DEAR]
    if by == "failed":
        assert ids(market, need(failed_machines=frozenset({1}))) == [2]
    else:
        assert ids(market, gone=[1]) == [2]
    assert [query for query in market.asked if query == search_query(NEED)] == [search_query(NEED)] * 2


def test_an_answer_that_was_just_given_is_not_asked_for_again() -> None:
    market = Market(CHEAP)
    assert ids(market, gone=[1]) == []
    with pytest.raises(NoOffers, match="failed_before"):
        ids(market, need(failed_machines=frozenset({1})))
    assert market.asked == [search_query(NEED), wide_query(NEED)]


def test_a_search_that_fails_leaves_nothing_behind() -> None:
    market = Market(CHEAP)

    def fail(query: OfferQuery) -> Sequence[Offer]:
        market.asked.append(query)
        if len(market.asked) == 1:
            raise MarketUnreachable("no answer")
        return (CHEAP,)

    market.searches = SearchCache(fail, lambda: market.now)
    with pytest.raises(MarketUnreachable):
        ids(market)
    assert ids(market) == [1]


def test_threads_that_want_the_same_at_the_same_moment_wait_for_one_answer() -> None:
    asked: list[OfferQuery] = []
    answer = threading.Event()
    under_way = threading.Barrier(9)

    def search(query: OfferQuery) -> Sequence[Offer]:
        asked.append(query)
        answer.wait()
        return (CHEAP, DEAR)

    searches = SearchCache(search)
    found: list[list[int]] = []

    def find() -> None:
        under_way.wait()
        found.append([ranked.offer.id for ranked in searches.find(NEED)])

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    under_way.wait()
    answer.set()
    for thread in threads:
        thread.join()
    assert found == [[1, 2]] * 8
    assert asked == [search_query(NEED)]
