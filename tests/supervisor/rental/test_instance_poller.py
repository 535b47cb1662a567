from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from queue import SimpleQueue

import pytest

from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.supervisor.rental.instance_poller import InstancePoller
from pytest_vastgpu.supervisor.rental.instance_poller import StatusUpdate
from tests.support.looks import PATIENCE_S
from tests.support.vast import make_status
from tests.support.vast import search_offers

NO_PAUSES = Timeouts(look_least_s=0.0, look_most_s=0.0)
LONG_S = PATIENCE_S
"""Longer than anything here takes; nothing waits that long unless it is broken."""


class Market:
    """Answers when the test says what; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[str | None] = SimpleQueue()
        self._answers: SimpleQueue[Sequence[InstanceStatus] | BaseException] = SimpleQueue()

    def ask(self, label: str | None) -> Sequence[InstanceStatus]:
        self.asked.put(label)
        answer = self._answers.get(timeout=LONG_S)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def says(self, *answer: InstanceStatus) -> None:
        self._answers.put(answer)

    def fails(self, error: BaseException) -> None:
        self._answers.put(error)

    def is_asked_for(self) -> str | None:
        return self.asked.get(timeout=LONG_S)


@pytest.fixture
def market() -> Market:
    for thread in lookouts():  # of an earlier test, on its way out
        thread.join(LONG_S)
    return Market()


@pytest.fixture
def board(market: Market) -> Iterator[InstancePoller]:
    yield InstancePoller(market.ask, NO_PAUSES)
    market.says()  # for a poll without a subscriber
    for thread in lookouts():
        thread.join(LONG_S)
    assert not lookouts(), "it looks on although nobody watches"


def lookouts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vastgpu-poller"]


@dataclass
class Watch:
    """Waits for news of one instance."""

    label: str
    updates: deque[StatusUpdate] = field(default_factory=deque)
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@contextmanager
def watching(poller: InstancePoller, label: str) -> Iterator[Watch]:
    watch = Watch(label)
    with poller.watching(label, watch.came.release) as watch.updates:
        yield watch


def next_of(watch: Watch) -> StatusUpdate:
    assert watch.came.acquire(timeout=LONG_S), f"no news of {watch.label}"
    return watch.updates.popleft()


A, B = make_status(label="a"), make_status(label="b", id=556)


def test_who_waits_alone_asks_for_itself_alone(board: InstancePoller, market: Market) -> None:
    with watching(board, "a") as watch:
        assert market.is_asked_for() == "a"
        market.says(A)
        assert next_of(watch) == StatusUpdate(A)
        assert market.is_asked_for() == "a"
        market.says()
        assert next_of(watch) == StatusUpdate(None)
        assert market.is_asked_for() == "a"


def test_several_share_one_answer(board: InstancePoller, market: Market) -> None:
    with watching(board, "a") as first, watching(board, "b") as second:
        if market.is_asked_for() == "a":  # the look may have begun before the second one came
            market.says(A)
            assert next_of(first) == StatusUpdate(A)
            assert market.is_asked_for() is None
        market.says(B, make_status(label="somebody else's"))
        assert next_of(first) == StatusUpdate(None)
        assert next_of(second) == StatusUpdate(B)
        assert market.is_asked_for() is None


def test_an_answer_asked_for_before_somebody_came_does_not_say_that_it_is_not_there(
    board: InstancePoller, market: Market
) -> None:
    with watching(board, "a") as first:
        assert market.is_asked_for() == "a"
        with watching(board, "b") as second:
            market.says(A)
            assert next_of(first) == StatusUpdate(A)
            assert market.is_asked_for() is None
            assert not second.updates
            with watching(board, "c") as third:
                market.says(make_status(label="c"))
                assert next_of(second) == StatusUpdate(None)
                assert next_of(third) == StatusUpdate(make_status(label="c")), "it was there already"
                assert market.is_asked_for() is None


def test_an_error_is_told_to_all_and_the_looks_go_on(board: InstancePoller, market: Market) -> None:
    with watching(board, "a") as first, watching(board, "b") as second:
        while market.is_asked_for() is not None:
            market.says()
            next_of(first)
        refused = BadApiKey("wrong")
        market.fails(refused)
        assert [next_of(first).error, next_of(second).error] == [refused, refused]
        assert market.is_asked_for() is None
        market.says(A, B)
        assert [next_of(first), next_of(second)] == [StatusUpdate(A), StatusUpdate(B)]
        market.is_asked_for()


def test_it_looks_only_while_somebody_watches_and_again_when_somebody_comes(
    board: InstancePoller, market: Market
) -> None:
    for label in ("a", "b"):
        with watching(board, label) as watch:
            assert market.is_asked_for() == label
            market.says(make_status(label=label))
            assert next_of(watch).error is None
            assert market.is_asked_for() == label
        market.says()
        for thread in lookouts():
            thread.join(LONG_S)
        assert not lookouts()
        assert market.asked.empty()
    market.says()


def test_a_pause_ends_when_the_last_one_leaves(market: Market) -> None:
    with watching(InstancePoller(market.ask, Timeouts(look_least_s=3600.0, look_most_s=3600.0)), "a"):
        (thread,) = lookouts()
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert market.asked.empty()


def test_three_instances_boot_on_one_series_of_lists(tmp_path: Path) -> None:
    """Each waiter sees its own instance run, and the market counts the calls."""
    fleet = {
        "market": {"rate_limits": False},
        "machines": [{"machine_id": 1, "slots": 8, "stages": {"loading_s": 0.3}}],
    }
    with (
        LocalMarket(fleet) as market,
        MarketClient(market.url, market.api_key, Throttle(tmp_path, "x", spaced=False)) as client,
    ):
        board = InstancePoller(client.list_instances)
        (offer,) = search_offers(client, {})
        labels = ("one", "two", "three")
        news: dict[str, int] = dict.fromkeys(labels, 0)
        arrived: list[str] = []

        def wait_for(watch: Watch) -> None:
            while True:
                status = next_of(watch).status
                news[watch.label] += 1
                if status is not None and status.phase is Phase.RUNNING:
                    arrived.append(status.label)
                    return

        with ExitStack() as stack:
            watches = [stack.enter_context(watching(board, label)) for label in labels]
            for label in labels:
                client.create(offer.id, CreateRequest(image="any", disk_gb=8, label=label))
            threads = [threading.Thread(target=wait_for, args=(watch,)) for watch in watches]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG_S)
        for thread in lookouts():
            thread.join(LONG_S)
        assert sorted(arrived) == sorted(labels)
        (asked,) = (each["count"] for each in market.status()["calls"] if each["endpoint"] == "list")
        assert asked < sum(news.values()), "each waiter asked for itself"
