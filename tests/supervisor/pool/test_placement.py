"""What to rent, to hand out and to give back, in tables."""

from __future__ import annotations

import pytest

from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.pool.placement import LINGER_S
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.placement import SlotView
from pytest_vastgpu.supervisor.pool.placement import hopeless
from pytest_vastgpu.supervisor.pool.placement import to_give_back
from pytest_vastgpu.supervisor.pool.placement import to_hand_out
from pytest_vastgpu.supervisor.pool.placement import to_make_room
from pytest_vastgpu.supervisor.pool.placement import to_start

A, B, C = (Workload("command", command=name) for name in "abc")
COMING, READY, LEAVING, ENDING = SlotPhase.COMING, SlotPhase.READY, SlotPhase.LEAVING, SlotPhase.ENDING


@pytest.mark.parametrize(
    ("certain", "places", "limit", "workers", "starts"),
    [
        ({}, [], None, 1, []),
        ({A: 1, B: 5, C: 2}, [], None, 1, [B, C, A]),
        ({A: 2, B: 2}, [], None, 1, [A, B]),
        ({A: 0, B: 1}, [], None, 1, [B]),
        ({A: 9}, [], None, 4, [A]),
        ({A: 1, B: 1}, [SlotView(1, A, COMING)], None, 1, [B]),
        ({A: 1}, [SlotView(1, A, ENDING)], None, 1, [A]),
        ({A: 1}, [SlotView(1, A, LEAVING, users=("w1",))], None, 1, [A]),
        ({A: 1}, [SlotView(1, A, LEAVING, users=("w1",))], 1, 1, []),
        ({A: 1}, [SlotView(1, A, READY, exclusive=True)], None, 1, [A]),
        # Not all fit: in the order of the run.
        ({A: 1, B: 5, C: 2}, [], 2, 1, [A, B]),
        ({A: 1, B: 5, C: 2}, [SlotView(1, C, READY)], 2, 1, [A]),
        ({A: 1, B: 5}, [SlotView(1, C, ENDING)], 1, 1, []),
        ({A: 1}, [SlotView(1, C, READY, exclusive=True)], 1, 1, []),
        ({A: 1}, [SlotView(1, C), SlotView(2, C)], 1, 1, []),
        # Spare room: more of the busiest, never more than workers or tests.
        ({A: 9}, [], 3, 4, [A, A, A]),
        ({A: 9}, [], 8, 4, [A, A, A, A]),
        ({A: 2}, [], 8, 4, [A, A]),
        ({A: 9}, [], 8, 1, [A]),
        ({A: 9, B: 1}, [], 3, 4, [A, B, A]),
        ({A: 8, B: 6}, [], 5, 4, [A, B, A, B, A]),
        ({A: 9}, [SlotView(1, A, READY), SlotView(2, A, ENDING)], 3, 4, [A]),
    ],
)
def test_what_to_rent_before_anybody_asks(
    certain: dict[Workload, int], places: list[SlotView], limit: int | None, workers: int, starts: list[Workload]
) -> None:
    assert to_start(certain, places, limit, workers) == starts


def test_what_is_barred_keeps_its_room_and_what_is_single_gets_no_second() -> None:
    assert to_start({A: 2, B: 2}, [], None, 2, barred={A}) == [B]
    assert to_start({A: 2, B: 2}, [], 4, 2, barred={A}) == [B]
    assert to_start({A: 2, B: 2}, [], 4, 2, single={A}) == [A, B, B]


@pytest.mark.parametrize(
    ("places", "number"),
    [
        ([], None),
        ([SlotView(1, A, COMING), SlotView(2, A, ENDING), SlotView(3, B), SlotView(4, A, exclusive=True)], None),
        ([SlotView(1, A, users=("x",)), SlotView(2, A)], 2),
        ([SlotView(2, A), SlotView(1, A)], 1),
        ([SlotView(1, A, users=("x", "y")), SlotView(2, A, users=("z",))], 2),
    ],
)
def test_the_least_busy_is_handed_out(places: list[SlotView], number: int | None) -> None:
    place = to_hand_out(places, A)
    assert (place.number if place else None) == number


@pytest.mark.parametrize(
    ("pending", "unknown", "places", "numbers"),
    [
        ({A: 1}, 0, [SlotView(1, A)], []),
        ({A: 0}, 0, [SlotView(1, A)], [1]),
        ({}, 0, [SlotView(1, A), SlotView(2, B)], [1, 2]),
        ({}, 1, [SlotView(1, A), SlotView(2, B)], []),
        ({}, 0, [SlotView(1, A, users=("x",))], []),
        ({}, 0, [SlotView(1, A, exclusive=True)], []),
        ({}, 0, [SlotView(1, A, ENDING)], []),
        ({}, 0, [SlotView(1, A, COMING)], [1]),
        # Replicas: those that are not ready go first, then the youngest; those in use stay.
        ({A: 2}, 0, [SlotView(1, A), SlotView(2, A), SlotView(3, A, COMING)], [3]),
        ({A: 2}, 0, [SlotView(1, A), SlotView(2, A), SlotView(3, A)], [3]),
        ({A: 1}, 0, [SlotView(1, A), SlotView(2, A, users=("x",)), SlotView(3, A)], [3, 1]),
        ({A: 1}, 0, [SlotView(1, A, COMING, users=("x",)), SlotView(2, A, COMING, users=("x",))], [2]),
        ({A: 1}, 0, [SlotView(1, A, users=("x",)), SlotView(2, A, users=("y",))], []),
        # One that comes a second time, while a test still uses it.
        ({A: 1}, 0, [SlotView(1, A, COMING, users=("x",), held=True), SlotView(2, A)], [2]),
    ],
)
def test_what_no_test_needs_goes_back(
    pending: dict[Workload, int], unknown: int, places: list[SlotView], numbers: list[int]
) -> None:
    assert sorted(place.number for place in to_give_back(pending, unknown, places)) == sorted(numbers)


OLD = LINGER_S


@pytest.mark.parametrize(
    ("places", "all_wait", "number"),
    [
        ([], True, None),
        ([SlotView(1, A, unused_s=OLD)], False, 1),
        ([SlotView(1, A, unused_s=OLD / 2)], False, None),
        ([SlotView(1, A, unused_s=0)], True, 1),
        ([SlotView(1, A, users=("x",))], True, None),
        ([SlotView(1, A, exclusive=True, unused_s=OLD)], True, None),
        ([SlotView(1, A, ENDING, unused_s=OLD)], True, None),
        ([SlotView(1, A, COMING, unused_s=OLD)], False, 1),
        ([SlotView(1, A, unused_s=OLD), SlotView(2, B, unused_s=OLD)], False, 2),
        ([SlotView(1, A, unused_s=OLD), SlotView(2, B, unused_s=OLD / 2)], False, 1),
        ([SlotView(1, A), SlotView(2, A, users=("x",))], False, 1),
        ([SlotView(1, A), SlotView(2, A, exclusive=True), SlotView(3, A, ENDING)], False, None),
        ([SlotView(1, B, unused_s=OLD), SlotView(2, A), SlotView(3, A, users=("x",))], False, 2),
    ],
)
def test_the_least_needed_makes_room(places: list[SlotView], all_wait: bool, number: int | None) -> None:
    place = to_make_room(places, {A: 5, B: 2}, all_wait)
    assert (place.number if place else None) == number


@pytest.mark.parametrize(
    ("places", "waiting", "answer"),
    [
        ([], {"x"}, True),
        ([SlotView(1, A, users=("x",))], {"x"}, True),
        ([SlotView(1, A, users=("x", "y"))], {"x"}, True),
        ([SlotView(1, A, users=("x",)), SlotView(2, B, users=("y",))], {"x", "y"}, True),
        ([SlotView(1, A, users=("x",)), SlotView(2, B, users=("y",))], {"x"}, False),
        ([SlotView(1, A)], {"x"}, False),
        ([SlotView(1, A, ENDING, users=("x",))], {"x"}, False),
        ([SlotView(1, A, COMING, users=("x",))], {"x"}, False),
    ],
)
def test_there_is_no_hope_where_all_wait_for_each_other(
    places: list[SlotView], waiting: set[str], answer: bool
) -> None:
    assert hopeless(places, waiting) is answer


def test_one_that_leaves_is_handed_to_nobody_and_goes_with_its_last_user() -> None:
    used, unused = SlotView(1, A, LEAVING, users=("w1",)), SlotView(2, A, LEAVING)
    assert to_hand_out([used, unused], A) is None
    assert to_give_back({A: 9}, 9, [used, unused]) == [unused]
    assert to_make_room([used], {A: 1}, all_wait=True) is None
    assert hopeless([used], {"w1"})
