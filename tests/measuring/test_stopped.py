"""A server that stops while it is measured, with few requests that fail: each waits until its time is over."""

from __future__ import annotations

import pytest

from pytest_vastgpu import MeasurementFailed
from pytest_vastgpu import http_load
from pytest_vastgpu.measuring import seen
from tests.support.driven import asked
from tests.support.driven import steady

LOAD = http_load("/", concurrency=8)
HUNG = asked(6.0, 60.0, error="timeout")


def until(end: float, takes: float = 0.01) -> list[dict[str, object]]:
    return [each for each in steady(10.0, takes) if each["end"] <= end]


def test_a_server_that_hangs_gives_no_numbers() -> None:
    found = {"seen": [*until(6.0), HUNG], "details": {"timeout": "no complete answer within 60 s"}}
    with pytest.raises(MeasurementFailed, match=r"stopped answering after 6\.0 of 10 s: no complete answer"):
        seen.check(LOAD, 10.0, found)


def test_a_single_failure_is_no_end() -> None:
    seen.check(http_load("/", concurrency=8), 10.0, {"seen": [*until(10.0), HUNG]})


def test_a_server_that_takes_long_has_not_stopped() -> None:
    """The last request of ten failed, and none is longer than others."""
    slow = [asked(at * 0.7, 0.7) for at in range(10)]
    seen.check(http_load("/", most_errors=0.1), 10.0, {"seen": [*slow, asked(7.0, 1.0, error="HTTP 500")]})
