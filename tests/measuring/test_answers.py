"""What the driver sees of an answer, by a server that answers as a test says."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu import Load
from pytest_vastgpu import chat
from pytest_vastgpu import http_load
from pytest_vastgpu import kserve
from pytest_vastgpu.client.measure import orders_of
from pytest_vastgpu.measuring.on_instance import answers
from pytest_vastgpu.measuring.on_instance import asking
from pytest_vastgpu.measuring.on_instance import driver
from tests.support.asked import Asked
from tests.support.asked import asked
from tests.support.streams import DONE
from tests.support.streams import STOP
from tests.support.streams import stream
from tests.support.streams import text
from tests.support.streams import usage

ROLE = 'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
DEEP = pytest.param("[" * 100_000, id="deep")
FORMLESS = "no answer of OpenAI's form"
INFER = kserve("add", [{"name": "x"}])


def used(tokens: object) -> str:
    return f'"usage": {{"completion_tokens": {tokens}}}'


def once(answer: Any, load: Load | None = None) -> dict[str, Any]:
    """What is seen of the first request that a server answers so."""
    with asked(answer) as server:
        made = driver.Load(orders_of(load or stream(), server.port, {}, 1.0), 0.0)
        seen = made.ask(1)
        made.close()
    return {**seen, "detail": made.details.get(seen["error"], "")}


def test_a_stream_is_read_piece_by_piece_and_counted_by_the_server() -> None:
    seen = once(lambda request: request.stream([ROLE, text("A"), text(" big ship"), STOP, usage(4), DONE]))
    assert (seen["error"], seen["pieces"], len(seen["gaps"])) == ("", 2, 1)
    assert (seen["tokens"], seen["counted"]) == (4, "usage")  # a piece may hold several
    assert seen["start"] <= seen["first"] <= seen["last"] <= seen["end"]


@pytest.mark.parametrize("key", ["text", "content", "reasoning_content", "reasoning", "tool_calls"])
def test_whatever_a_model_says_is_a_token(key: str) -> None:
    seen = once(lambda request: request.stream([ROLE, text("A", key), text("B", key), DONE]))
    assert (seen["error"], seen["pieces"], seen["tokens"], seen["counted"]) == ("", 2, 2, "pieces")


def test_a_model_that_ends_at_once_has_made_one_token() -> None:
    seen = once(lambda request: request.stream([STOP, usage(1), DONE]))
    assert (seen["error"], seen["tokens"], seen["gaps"]) == ("", 1, [])
    assert seen["start"] <= seen["first"] == seen["last"] <= seen["end"]


def test_a_piece_came_when_its_bytes_did() -> None:
    """However late it is read: here all are read after the last has come."""
    stamped = SimpleNamespace(at=0.0)
    parts = iter([(1.0, text("A")), (2.5, text("B")[:9]), (3.0, text("B")[9:] + text("C")), (4.0, DONE), (4.0, "")])

    def read1(_: int) -> bytes:
        stamped.at, part = next(parts)
        return part.encode()

    seen: dict[str, Any] = {"first": None, "last": None, "gaps": [], "tokens": 0, "counted": "", "pieces": 0}
    answers._read_stream(SimpleNamespace(read1=read1, stamped=stamped), seen, "chat")
    assert (seen["first"], seen["last"], seen["gaps"]) == (1.0, 3.0, [2.0, 0.0])


@pytest.mark.parametrize(
    ("answer", "error", "detail"),
    [
        (lambda request: request.reply("too busy", 503), "HTTP 503", "HTTP 503: too busy"),
        (lambda request: request.reply('{"choices": []}'), "no stream", 'no stream of events: {"choices": []}'),
        (lambda request: request.stream([text("A")], ended=False), "IncompleteRead", "IncompleteRead"),
        (lambda request: request.stream([text("A")]), "broken stream", "broke off after 1 pieces"),
        (lambda request: request.stream([usage(0), DONE]), "no token", "the answer held no token"),
        (lambda request: request.stream(["data: {oops\n\n"]), "no JSON", "{oops"),
        (lambda request: request.stream(['data: {"error": {"code": 1}}\n\n']), "error in the stream", '{"code": 1}'),
        (lambda request: request.stream(['data: {"choices": "abc"}\n\n']), FORMLESS, '{"choices": "abc"}'),
        (lambda request: request.stream(['data: {"choices": [1]}\n\n']), FORMLESS, '{"choices": [1]}'),
        (lambda request: request.stream(['data: {"choices": [{"delta": [1]}]}\n\n']), FORMLESS, "[1]"),
        (lambda request: request.stream(['data: {"usage": [5]}\n\n']), FORMLESS, '{"usage": [5]}'),
        (lambda request: request.stream(["data: [1]\n\n"]), FORMLESS, "OpenAI's form: [1]"),
        (lambda request: request.stream([f"data: {'[' * 100_000}\n\n"]), "no JSON", "[["),
        (
            lambda request: request.stream(["data: ", *["x" * 100_000] * 11]),
            "too long",
            "a line of the stream is longer",
        ),
    ],
)
def test_what_is_no_answer_is_an_error_with_a_reason(answer: Any, error: str, detail: str) -> None:
    seen = once(answer)
    assert seen["error"] == error
    assert detail in seen["detail"]


def test_an_answer_as_a_whole_has_the_servers_count_of_tokens_if_it_tells() -> None:
    counted = once(lambda request: request.reply(f'{{"choices": [{{}}], {used(5)}}}'), stream(stream=False))
    silent = once(lambda request: request.reply("[1]"), http_load("/", warmup_s=0))
    assert (counted["error"], counted["tokens"], counted["counted"], counted["first"]) == ("", 5, "usage", None)
    assert (silent["error"], silent["tokens"], silent["counted"]) == ("", 0, "")


@pytest.mark.parametrize("tokens", ["-4", "true", pytest.param("9" * 400, id="long"), "1e3", '"5"', "null"])
def test_a_number_of_tokens_that_none_can_be_does_not_count(tokens: str) -> None:
    whole = once(lambda request: request.reply(f'{{"choices": [{{}}], {used(tokens)}}}'), stream(stream=False))
    pieces = once(lambda request: request.stream([text("A"), text("B"), f"data: {{{used(tokens)}}}\n\n", DONE]))
    assert (whole["error"], whole["tokens"], whole["counted"]) == ("", 0, "")
    assert (pieces["error"], pieces["tokens"], pieces["counted"]) == ("", 2, "pieces")


@pytest.mark.parametrize("body", ["<html>", '{"error": {"code": 1}}', '{"choices": []}', "[1]", "", DEEP])
@pytest.mark.parametrize(
    ("load", "whose"), [(stream(stream=False), "OpenAI"), (chat(model="m", stream=False), "OpenAI"), (INFER, "KServe")]
)
def test_an_answer_as_a_whole_that_is_no_answer_is_an_error(load: Load, whose: str, body: str) -> None:
    seen = once(lambda request: request.reply(body), load)
    assert seen["error"] == f"no answer of {whose}'s form"
    assert body[:20] in seen["detail"]
    assert once(lambda request: request.reply(body), http_load("/"))["error"] == ""


def test_an_answer_that_breaks_off_is_an_error() -> None:
    def cut(request: Asked) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        request.close_connection = True

    assert once(cut, http_load("/"))["error"] == "IncompleteRead"


def test_an_answer_that_is_not_read_for_what_it_says_may_be_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 1 << 21)
    for load, error in ((http_load("/"), ""), (INFER, "too long"), (stream(stream=False), "too long")):
        assert once(lambda request: request.reply(" " * (3 << 20)), load)["error"] == error
    events = [f": {'x' * 100_000}\n\n"] * 25
    assert once(lambda request: request.stream(events))["detail"] == "the stream is longer than 2 MiB"


def forever(*said: str) -> Callable[[Asked], None]:
    """An answer that goes on and on."""
    return lambda request: request.stream(itertools.chain.from_iterable(itertools.repeat(said)))


def go_on(request: Asked) -> None:
    while True:
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@pytest.mark.parametrize("load", [stream(timeout_s=0.1), http_load("/", timeout_s=0.1)])
@pytest.mark.parametrize("answer", [forever(": ping\n\n"), forever(text("A")), forever("x\n" * 100), go_on])
def test_an_answer_that_never_ends_is_over_when_its_time_is(answer: Callable[[Asked], None], load: Load) -> None:
    """Although there is always something to read."""
    seen = once(answer, load)
    assert (seen["error"], seen["detail"]) == ("timeout", "no complete answer within 0.1 s")
    assert seen["gaps"] == []  # of which there were thousands


def test_bytes_that_are_there_when_the_time_is_over_do_not_prolong_it() -> None:
    """However many: none of them is read."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb", buffering=0) as raw:
        theirs.sendall(b"x" * 1000)
        with pytest.raises(TimeoutError):
            asking._Stamped(raw, ours, time.monotonic()).readinto(bytearray(10))
