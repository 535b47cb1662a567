"""Logs that grow arrive whole, and only what is new of them travels."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.log_delta import LogDelta
from pytest_vastgpu.core.log_delta import LogReceiver
from pytest_vastgpu.core.log_delta import LogSender
from pytest_vastgpu.core.text.layout import bounded

OVERHEAD = 100
"""Characters of a message that are none of the log's, and of the line that says how much was cut out."""


class Wire:
    """Both sides, and what has travelled between them."""

    def __init__(self) -> None:
        self._sender = LogSender()
        self._receiver = LogReceiver()
        self.chars = 0

    def send(self, text: str) -> str:
        delta = self._sender.pack(text)
        self.chars = len(delta.middle) + len(delta.end)
        return self._receiver.unpack(decode(LogDelta, json.loads(json.dumps(encode(delta)))))


PIECES = st.lists(st.tuples(st.integers(0, 3), st.text("ab\n", max_size=150)), max_size=25)


@given(PIECES, st.integers(10, 400))
def test_logs_that_grow_and_lose_their_middle_arrive_whole(pieces: list[tuple[int, str]], limit: int) -> None:
    wire = Wire()
    logs = dict.fromkeys(range(4), "")
    for number, piece in pieces:
        logs[number] += piece
        text = bounded(logs[number], limit)
        assert wire.send(text) == text


@given(st.lists(st.text("ab", max_size=200), max_size=40))
def test_any_texts_arrive_whole(texts: list[str]) -> None:
    wire = Wire()
    for text in texts:
        assert wire.send(text) == text


def lines(dice: random.Random, count: int) -> str:
    return "".join(f"INFO {dice.random()} step {dice.random()}\n" for _ in range(count))


@pytest.mark.parametrize("streams", [1, 2, 16])
def test_only_what_is_new_travels(streams: int) -> None:
    """They all begin alike, as logs of the same server do."""
    dice = random.Random(1)
    wire = Wire()
    logs = [f"server starts\n{'x' * 100}\n" for _ in range(streams)]
    for turn in range(20):
        for number in range(streams):
            more = lines(dice, 5)
            logs[number] += more
            assert wire.send(logs[number]) == logs[number]
            if turn:
                assert wire.chars <= len(more)


@pytest.mark.parametrize("streams", [1, 3])
def test_only_what_is_new_of_a_log_without_its_middle_travels(streams: int) -> None:
    dice = random.Random(2)
    wire = Wire()
    logs = ["server starts\n" + lines(dice, 1000) for _ in range(streams)]
    for turn in range(10):
        for number in range(streams):
            more = lines(dice, 5)
            logs[number] += more
            text = bounded(logs[number], 20_000)
            assert wire.send(text) == text
            if turn:
                assert wire.chars <= len(more) + OVERHEAD


def test_only_what_is_new_travels_when_the_middle_is_cut_out_for_the_first_time() -> None:
    dice = random.Random(3)
    wire = Wire()
    log = lines(dice, 100)
    wire.send(log)
    more = lines(dice, 100)
    text = bounded(log + more, len(log) + 50)
    assert wire.send(text) == text
    assert wire.chars <= len(more) + OVERHEAD


def test_lines_that_come_again_and_again_are_not_taken_for_the_end() -> None:
    """As those of an access log."""
    dice = random.Random(4)
    wire = Wire()
    again = "INFO:     127.0.0.1:40000 - GET /health HTTP/1.1 200 OK, as ever and ever and ever\n"
    log = "".join(lines(dice, 1) + again for _ in range(1000))
    wire.send(bounded(log, 20_000))
    for _ in range(10):
        more = lines(dice, 1) + again
        log += more
        text = bounded(log, 20_000)
        assert wire.send(text) == text
        assert wire.chars <= len(more) + OVERHEAD


def test_what_did_not_change_costs_nothing() -> None:
    wire = Wire()
    wire.send("x" * 1000)
    assert wire.send("x" * 1000) == "x" * 1000
    assert wire.chars == 0


def test_more_logs_than_are_remembered_arrive_whole_all_the_same() -> None:
    dice = random.Random(5)
    wire = Wire()
    logs = [f"{number} starts\n" for number in range(40)]
    for _ in range(5):
        for number in range(40):
            logs[number] += lines(dice, 3)
            assert wire.send(logs[number]) == logs[number]


def test_both_sides_remember_only_so_much() -> None:
    sender, receiver = LogSender(), LogReceiver()
    for number in range(200):
        receiver.unpack(sender.pack(f"log {number} of its own"))
    assert len(vars(sender)["_known"]) == len(vars(receiver)["_known"]) == 16
