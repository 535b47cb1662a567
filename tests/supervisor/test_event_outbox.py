"""Events on their way to a pytest that may be slow, stopped or gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.model import State
from pytest_vastgpu.reporting.waiting import Waiting
from pytest_vastgpu.supervisor.event_outbox import EventOutbox

WITHIN_S = 30.0
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """What the outbox sends on, and what pytest reads."""
    theirs, ours = socket.socketpair()
    ours.settimeout(WITHIN_S)
    with theirs, ours:
        yield theirs, ours


def sending(outbox: EventOutbox, sock: socket.socket) -> threading.Thread:
    """As the server's thread does."""

    def send() -> None:
        try:
            outbox.send_all(sock)
        except OSError:
            return
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def event(text: str, **facts: object) -> Event:
    return Event("vastgpu-1", State.BOOTING, text, dict(facts), time=5.0)


def taken(sock: socket.socket) -> list[dict[str, Any]]:
    """Everything until the end."""
    found = []
    try:
        while True:
            found.append(messages.receive(sock))
    except EOFError:
        return found


def texts(found: list[dict[str, Any]]) -> list[str]:
    return [decode(Event, each["event"]).text for each in found]


def test_events_arrive_in_order_with_their_numbers(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox()
    outbox.put(event("before anybody listens"))
    sending(outbox, theirs)
    outbox.put(event("and after"))
    outbox.close()
    found = taken(ours)
    assert texts(found) == ["before anybody listens", "and after"]
    assert [each["number"] for each in found] == [1, 2]
    assert outbox.count == 2


def test_what_an_event_says_to_programs_stays_here(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox()
    sending(outbox, theirs)
    sent = event("ready", endpoint=object())
    outbox.put(sent)
    assert decode(Event, messages.receive(ours)["event"]) == event("ready")
    assert sent.facts, "the log has them"


def test_a_pytest_that_does_not_read_keeps_nobody_waiting_and_is_told_what_it_missed(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox(most=10)
    thread = sending(outbox, theirs)
    for number in range(2000):  # many times what the socket and the outbox hold
        outbox.put(event(f"{number} {'x' * 1000}"))
    assert thread.is_alive()
    assert outbox.count == 2000
    threading.Thread(target=outbox.close, daemon=True).start()
    said = texts(taken(ours))
    shown = [int(text.split()[0]) for text in said if text.endswith("x")]
    told = [text.partition(" ") for text in said if not text.endswith("x")]
    assert shown == sorted(shown)
    assert shown[:10] == list(range(10)), "what came first is not given up for what came later"
    assert told
    assert len(shown) + sum(int(lost) for lost, _, _ in told) == 2000
    assert {text for _, _, text in told} == {
        "events are not shown here, since pytest did not take them in time; events.jsonl has them"
    }


def test_after_an_overflow_events_arrive_again(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox(most=2)
    for number in range(5):
        outbox.put(event(str(number)))
    sending(outbox, theirs)
    said = [texts([messages.receive(ours)])[0] for _ in range(3)]
    assert said[:2] == ["0", "1"]
    assert said[2].startswith("3 events are not shown")
    outbox.put(event("5"))
    found = messages.receive(ours)
    assert (found["number"], texts([found])) == (6, ["5"])


def test_the_end_waits_until_the_rest_is_taken(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox()
    sending(outbox, theirs)
    for number in range(500):
        outbox.put(event(f"{number} {'x' * 1000}"))
    closing = threading.Thread(target=outbox.close, daemon=True)
    closing.start()
    assert closing.is_alive()
    assert len(taken(ours)) == 500
    closing.join(WITHIN_S)
    assert not closing.is_alive()


def test_the_end_waits_for_nobody_who_does_not_read(pair: Pair) -> None:
    outbox = EventOutbox(last_s=0.05)
    sending(outbox, pair[0])
    for _ in range(500):
        outbox.put(event("x" * 1000))
    outbox.close()
    EventOutbox(last_s=0.05).close()  # nor for one who never came


def test_a_pytest_that_is_gone_keeps_nobody_waiting(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox(last_s=10 * WITHIN_S)
    thread = sending(outbox, theirs)
    ours.close()
    for _ in range(10):
        outbox.put(event("x"))
    thread.join(WITHIN_S)
    assert not thread.is_alive()
    closing = threading.Thread(target=outbox.close, daemon=True)
    closing.start()
    closing.join(WITHIN_S)
    assert not closing.is_alive(), "there is nobody to wait for"


def test_many_threads_may_put_at_once(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox()
    sending(outbox, theirs)

    def put_many(name: str) -> None:
        for number in range(50):
            outbox.put(event(f"{name} {number}"))

    threads = [threading.Thread(target=put_many, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.close()
    found = taken(ours)
    assert [each["number"] for each in found] == list(range(1, 201))
    for name in "abcd":
        assert [text for text in texts(found) if text[0] == name] == [f"{name} {number}" for number in range(50)]


def test_of_what_is_waited_for_the_newest_report_is_sent_after_the_events_and_is_no_event(pair: Pair) -> None:
    theirs, ours = pair
    outbox = EventOutbox()
    outbox.put_waits([Waiting("old", 1.0, "")])
    outbox.put_waits([Waiting("new", 2.0, "goes on")])
    outbox.put(event("one"))
    thread = sending(outbox, theirs)
    assert texts([messages.receive(ours)]) == ["one"]
    assert decode(list[Waiting], messages.receive(ours)["waits"]) == [Waiting("new", 2.0, "goes on")]
    outbox.put_waits([])
    assert messages.receive(ours) == {"waits": []}
    assert outbox.count == 1
    outbox.close()
    thread.join(WITHIN_S)
    assert taken(ours) == []
