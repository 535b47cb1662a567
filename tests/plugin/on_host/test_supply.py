"""When workers are started, hosts rented again and given back."""

from __future__ import annotations

import pytest

from pytest_vastgpu.plugin.on_host.supply import Plan
from pytest_vastgpu.plugin.on_host.supply import Situation
from pytest_vastgpu.plugin.on_host.supply import Supply

RUNS = Situation(
    begun=True,
    waiting=0,
    movable=0,
    doubtful=(),
    unproven=0,
    able=2,
    collecting=0,
    busy={"host 1": 2},
    coming={},
    each=2,
)
"""A host whose workers have all that is left."""


def places(*empty: str) -> Supply:
    return Supply(set(empty))


@pytest.mark.parametrize(
    ("now", "plan"),
    [
        pytest.param(RUNS, Plan(), id="all is well"),
        pytest.param(RUNS._replace(movable=1), Plan(rent=["host 2"]), id="a test that nobody has next"),
        pytest.param(RUNS._replace(movable=2, collecting=2), Plan(), id="those that collect will have it"),
        pytest.param(RUNS._replace(movable=2, coming={"host 1": 2}), Plan(), id="those that come will have it"),
        pytest.param(RUNS._replace(movable=3, coming={"host 1": 2}), Plan(rent=["host 2"]), id="more than they take"),
        pytest.param(RUNS._replace(begun=False), Plan(rent=["host 2"]), id="nobody knows how many tests there are"),
        pytest.param(
            RUNS._replace(waiting=1, movable=1, able=0),
            Plan(start={"host 1": 1}),
            id="its workers have been told to end",
        ),
        pytest.param(
            RUNS._replace(waiting=5, movable=5, able=0),
            Plan(start={"host 1": 2}, rent=["host 2"]),
            id="a host has no more than its workers",
        ),
        pytest.param(
            RUNS._replace(waiting=1, movable=1, able=0, doubtful=("host 1",)),
            Plan(rent=["host 2"]),
            id="nothing is started on a host that may be lost",
        ),
        pytest.param(RUNS._replace(able=0, busy={"host 1": 0}), Plan(give_back=["host 1"]), id="it has finished"),
        pytest.param(
            RUNS._replace(able=0, busy={"host 1": 0}, doubtful=("host 3",)), Plan(), id="it may be needed yet"
        ),
        pytest.param(RUNS._replace(able=0, busy={"host 1": 0}, unproven=1), Plan(), id="others may run no test"),
        pytest.param(RUNS._replace(able=0, busy={"host 1": 0}, coming={"host 1": 1}), Plan(), id="a worker comes"),
        pytest.param(
            RUNS._replace(able=0, busy={}, waiting=3, movable=3), Plan(rent=["host 2"]), id="no host is there"
        ),
    ],
)
def test_what_is_done(now: Situation, plan: Plan) -> None:
    assert places("host 2").plan(now) == plan


@pytest.mark.parametrize("now", [RUNS._replace(waiting=3, movable=3), RUNS._replace(begun=False)])
def test_where_nothing_is_to_be_had_it_is_given_up(now: Situation) -> None:
    assert places().plan(now._replace(able=0, busy={})) == Plan(give_up=True)


def test_what_is_rented_is_not_rented_again() -> None:
    known = places("host 1", "host 2")
    now = RUNS._replace(movable=9, busy={}, able=0)
    assert known.plan(now).rent == ["host 1", "host 2"]
    assert known.plan(now._replace(coming={"host 1": 2, "host 2": 2})).rent == []


def test_a_place_whose_hosts_are_lost_without_a_result_stays_empty() -> None:
    known = places()
    known.lost("host 1")
    assert known.empty == {"host 1"}
    known.empty.clear()
    known.lost("host 1")
    assert known.empty == set()
    known.fruitful("host 1")
    known.lost("host 1")
    assert known.empty == {"host 1"}


def test_a_loss_that_says_nothing_of_a_place_leaves_it_as_it_is() -> None:
    known = places()
    for _ in range(9):
        known.lost("host 1", counts=False)
        assert known.empty == {"host 1"}
    known.lost("host 1")
    assert known.empty == {"host 1"}
