"""What gives numbers that mean nothing is refused; what must be known to read them is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_vastgpu import Load
from pytest_vastgpu import MeasurementFailed
from pytest_vastgpu import completions
from pytest_vastgpu import http_load
from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring import seen
from tests.support.driven import asked
from tests.support.driven import steady

LOAD = completions(model="m")
WHOLE = completions(model="m", stream=False)
STREAMED: dict[str, Any] = {"ttft": 0.02, "gaps": (0.01,) * 5}


def some(good: int, bad: int, error: str = "HTTP 503") -> list[dict[str, Any]]:
    return [asked(0.1 * number, 0.1, error=error if number >= good else "") for number in range(good + bad)]


def stopped(start: float) -> list[dict[str, Any]]:
    """A server that is gone from some moment on: the loop waits longer and longer."""
    pauses = (0.05, 0.5, 1.0, 1.0)
    begun = (start, start + 0.05, start + 0.55, start + 1.55)
    return [asked(at, 0.0, error="Connection refused", pause=each) for at, each in zip(begun, pauses, strict=True)]


@pytest.mark.parametrize(
    ("load", "requests", "said"),
    [
        (WHOLE, some(0, 4), "4 of 4 requests failed (HTTP 503: 4), the first 0.0 s after the warm-up: HTTP 503: busy"),
        (WHOLE, some(9, 1), "1 of 10 requests failed (HTTP 503: 1), the first 0.9 s after the warm-up"),
        (WHOLE, some(9, 1), "mend the server, or allow more than most_errors=0.01"),
        (
            WHOLE,
            [*steady(8.0, 0.001), *stopped(8.0)],
            "(Connection refused: 4), and 20% of the time went by with that, the first 8.0",
        ),
        (WHOLE, [asked(-2.0, 30.0)], "no request began in 10 s: those of the warm-up took up to 30.0 s"),
        (WHOLE, [], "no request began in 10 s"),
        (WHOLE, [asked(0.5, 12.0), asked(0.6, 11.0)], "no request was complete within 10 s: the shortest took 11.0 s"),
        (LOAD, steady(10.0, ttft=1.0, gaps=(0.0,) * 20), "streaming that is none"),
        (LOAD, steady(10.0, ttft=1.0, gaps=(0.00002,) * 20), "give the load stream=False"),
        (LOAD, steady(10.0, ttft=1.0, tokens=64), "streaming that is none"),
        (LOAD, steady(10.0, ttft=1.0, tokens=8), "streaming that is none"),  # a proxy that holds answers back
        (LOAD, steady(10.0, ttft=1.0, gaps=(0.0,), tokens=8), "streaming that is none"),
    ],
)
def test_what_means_nothing_is_refused(load: Load, requests: list[dict[str, Any]], said: str) -> None:
    found = {"seen": requests, "details": {"HTTP 503": "HTTP 503: busy"}}
    with pytest.raises(MeasurementFailed) as caught:
        seen.check(load, 10.0, found)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("load", "requests"),
    [
        (LOAD, steady(10.0, **STREAMED)),
        (dataclasses.replace(WHOLE, most_errors=0.5), [*some(5, 5), asked(9.8)]),
        (WHOLE, some(99, 1)),
        (WHOLE, [*steady(10.0, 0.001), asked(5.0, 0.0, error="HTTP 503", pause=0.05)]),
        (
            dataclasses.replace(WHOLE, concurrency=32),
            [*steady(10.0, 0.1, at_a_time=32), asked(1.0, 60.0, error="timeout")],
        ),
        (LOAD, steady(10.0, ttft=1.0, gaps=(0.1,), tokens=8)),  # a server that makes several tokens in a step
        (LOAD, steady(10.0, ttft=1.0, tokens=2)),  # of which one ends the answer
        (LOAD, steady(10.0, ttft=1.0, gaps=(0.002,) * 4)),  # much to read, little to say
        (LOAD, steady(10.0, ttft=0.0001, gaps=(0.0001,) * 15)),  # a tiny model
        (LOAD, [*steady(10.0, ttft=1.0, gaps=(0.0,) * 20)[:2], *steady(10.0, **STREAMED)]),
        # Another driver, which may have been late itself: nobody knows
        (dataclasses.replace(LOAD, driver="aiperf"), steady(10.0, ttft=1.0, gaps=(0.0,) * 20)),
    ],
)
def test_what_means_something_is_not(load: Load, requests: list[dict[str, Any]]) -> None:
    seen.check(load, 10.0, {"seen": requests})


def test_an_open_loop_that_asks_for_more_than_can_be_sent_gives_no_numbers() -> None:
    """What was due in the measured seconds counts, in what is refused and in what is told, though it was sent later."""
    load = http_load("/", rate=1000)
    sent = [asked(at / 1000, due=at / 1000) for at in range(1000)]
    unsent = [asked(10.0 + at / 1e6, 0.0, due=at / 1000, error="not sent") for at in range(1000, 10_000)]
    with pytest.raises(MeasurementFailed, match=r"9000 of 10000 requests failed \(not sent: 9000\), the first 1\.0 s"):
        seen.check(load, 10.0, {"seen": [*sent, *unsent]})
    late = [asked(10.0 + at / 100, 0.01, due=9.0 + at / 1000) for at in range(500)]
    found = {"seen": [*sent, *late, *unsent[:2]]}
    seen.check(load, 10.0, found)
    assert measurement.of(load, 10.0, found["seen"])["requests"].value == 1500
    assert "driver was late itself" in "".join(seen.notes(10.0, found))


def test_errors_of_the_warm_up_do_not_count() -> None:
    seen.check(WHOLE, 10.0, {"seen": [asked(-1.0, 0.1, error="HTTP 503"), *steady(10.0)]})


def test_requests_that_are_too_many_to_be_told_of_are_said() -> None:
    with pytest.raises(MeasurementFailed, match=r"3000000 requests are more than .* fewer seconds"):
        seen.check(WHOLE, 10.0, {"too_much": 3_000_000})


def test_the_text_of_a_server_steers_no_terminal() -> None:
    with pytest.raises(MeasurementFailed) as caught:
        seen.check(WHOLE, 10.0, {"seen": some(0, 1), "details": {"HTTP 503": "\x1b[2J\n" + "x" * 9999}})
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"lag": [0.05] * 100},
            "by 50.0 ms in one case of twenty, where a typical answer began after 20.0 ms",
        ),
        ({"due_s": 0.05}, "late itself, by 50.0 ms"),
        ({"cpu_s": 9.0}, "used 90% of a CPU core"),
        ({"counted": "pieces"}, "does not tell how many tokens it made"),
        ({"thinned": 4}, "one time between tokens of 4 is counted"),
    ],
)
def test_what_must_be_known_is_said(found: dict[str, Any], said: str) -> None:
    requests = steady(10.0, **STREAMED)
    for each in requests:
        each["counted"] = found.get("counted", "usage")
        if "due_s" in found:
            each["due"] = each["start"] - found["due_s"]
    (note,) = seen.notes(10.0, {**found, "seen": requests})
    assert said in note


def test_where_all_is_well_nothing_is_said() -> None:
    calm = {"lag": [0.0001] * 95 + [0.5] * 4, "cpu_s": 1.0, "thinned": 1, "seen": steady(10.0, **STREAMED)}
    assert list(seen.notes(10.0, calm)) == []
