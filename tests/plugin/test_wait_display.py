from __future__ import annotations

import pytest

from pytest_vastgpu.plugin.wait_display import WaitDisplay
from pytest_vastgpu.plugin.wait_display import giving_back
from pytest_vastgpu.reporting.waiting import Waiting


def told(verbosity: int, ends_s: float, reports_until_s: float = float("inf")) -> list[float]:
    """The seconds at which a line is due, of a wait whose display is asked twenty times a second."""
    display = WaitDisplay(verbosity)
    due = []
    for tick in range(int(ends_s * 20)):
        now = tick / 20
        if tick % 20 == 0 and now <= reports_until_s:
            display.take([Waiting("one", now, "goes on")], now)
        due += [now] * len(display.lines(now))
    return due


@pytest.mark.parametrize(
    ("verbosity", "ends_s", "expected"),
    [
        (0, 29.9, []),
        (0, 100, [30, 60, 90]),
        (1, 100, [30, 60, 90]),
        (-1, 59.9, []),
        (-1, 200, [60, 120, 180]),
        (-2, 1000, []),
    ],
)
def test_a_line_every_half_minute_and_every_minute_where_quiet(
    verbosity: int, ends_s: float, expected: list[float]
) -> None:
    assert told(verbosity, ends_s) == expected


def test_a_supervisor_that_is_silent_does_not_silence_the_wait() -> None:
    assert told(0, 100, reports_until_s=10) == [30, 60, 90]


def test_each_workload_has_its_own_time_and_a_new_wait_begins_anew() -> None:
    display = WaitDisplay(0)
    display.take([Waiting("one", 31.0, ""), Waiting("two", 29.0, "")], 0.0)
    assert display.lines(0.0) == ["waiting 31 s for one"]
    assert display.lines(1.0) == ["waiting 30 s for two"]
    assert display.lines(1.0) == []
    display.take([], 2.0)
    assert display.lines(100.0) == []
    display.take([Waiting("one", 30.0, "")], 100.0)
    assert display.lines(100.0) == ["waiting 30 s for one"]


def test_what_this_process_waits_for_is_said_until_the_supervisor_says_more() -> None:
    display = WaitDisplay(0)
    display.begin("an instance", 100.0)
    assert display.lines(129.0) == []
    assert display.lines(131.0) == ["waiting 31 s for an instance"]
    display.take([Waiting("one", 62.0, "")], 162.0)
    assert display.lines(162.0) == ["waiting 1 min 2 s for one"]
    display.end()
    assert display.lines(500.0) == []


@pytest.mark.parametrize(
    ("verbosity", "seconds", "expected"),
    [(0, 2.9, []), (0, 3.0, ["waiting 3 s for one"]), (-1, 3.0, ["waiting 3 s for one"]), (-2, 300.0, [])],
)
def test_a_terminal_shows_a_wait_after_a_moment(verbosity: int, seconds: float, expected: list[str]) -> None:
    display = WaitDisplay(verbosity)
    display.take([Waiting("one", seconds, "")], 50.0)
    assert display.status(50.0, 80) == expected


def test_many_waits_at_once_take_few_lines() -> None:
    display = WaitDisplay(0)
    display.take([Waiting(str(number), 10.0 + number, "") for number in range(7)], 0.0)
    assert display.status(0.0, 80) == [
        "waiting 16 s for 6",
        "waiting 15 s for 5",
        "waiting 14 s for 4",
        "waiting 13 s for 3",
        "waiting for 3 more",
    ]


@pytest.mark.parametrize(
    ("what", "silent_s", "expected"),
    [
        (["instance 7"], 0.0, "instance 7"),
        (["instance 7", "instance 8 (429)"], 0.0, "instance 7, instance 8 (429)"),
        ([], 61.0, "the supervisor; the supervisor has not answered for 1 min 1 s"),
    ],
)
def test_the_end_says_what_it_waits_for(what: list[str], silent_s: float, expected: str) -> None:
    assert giving_back(what, 75.0, silent_s) == f"still giving back: waiting 1 min 15 s for {expected}"
