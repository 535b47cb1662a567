"""Which modes of distribution are taken, and what those that keep tests together do where workers come and go."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu.plugin.on_host import schedules

A, B, C, D = "t.py::test_a", "t.py::test_b", "t.py::test_c", "t.py::test_d"


class Worker:
    """A worker that is told which tests to run."""

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id="gw")
        self.got: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.got += indices

    def shutdown(self) -> None:
        self.shutting_down = True


Begin = Callable[[str, list[str], int], tuple[Any, list[Worker]]]


@pytest.fixture
def begun(pytester: pytest.Pytester) -> Begin:
    """A schedule that has been begun by some workers."""

    def begin(dist: str, tests: list[str], workers: int) -> tuple[Any, list[Worker]]:
        config = pytester.parseconfig()
        config.option.tx = [f"{workers}*popen"]
        schedule = schedules.OWN[dist](config)
        found = [Worker() for _ in range(workers)]
        for worker in found:
            joins(schedule, worker, tests)
        return schedule, found

    return begin


def joins(schedule: Any, worker: Worker, tests: list[str]) -> None:
    """A worker has collected."""
    schedule.add_node(worker)
    schedule.add_node_collection(worker, tests)
    if schedule.collection_is_completed:
        schedule.schedule()


@pytest.mark.parametrize("dist", [schedules.DEFAULT, "load", *schedules.OWN])
def test_what_the_user_asks_for_is_taken(dist: str) -> None:
    schedules.may_distribute(dist)


def test_each_is_refused_before_anything_is_rented() -> None:
    with pytest.raises(pytest.UsageError, match="--dist each and --vast-hosts exclude each other"):
        schedules.may_distribute("each")


@pytest.mark.parametrize("tests", [[A, B], [A, B, C]], ids=len)
def test_a_worker_that_comes_when_single_tests_are_left_begins_one(begun: Begin, tests: list[str]) -> None:
    schedule, (first,) = begun("loadgroup", tests, 1)
    lost = schedule.remove_node(first)
    schedule.mark_test_pending(lost)
    late = Worker()
    joins(schedule, late, tests)
    assert len(late.got) == 2  # it runs one, since it knows the next


def test_no_worker_is_given_two_tests_where_another_has_none(begun: Begin) -> None:
    tests = [A, B, C, D]
    schedule, (first,) = begun("loadgroup", tests, 1)
    second, third = Worker(), Worker()
    for worker in (second, third):
        schedule.add_node(worker)
        schedule.add_node_collection(worker, tests)
    assert schedule.remove_node(first) == A
    assert [len(worker.got) for worker in (second, third)] == [2, 1]
    assert third.shutting_down  # and so it runs the one it has


def test_the_test_that_a_worker_runs_is_known_where_its_file_has_come_apart(begun: Begin) -> None:
    tests = [f"t_{name}::test" for name in ("a.py::A1", "a.py::A2", "b.py::B1", "b.py::B2", "c.py", "d.py", "e.py")]
    schedule, (first,) = begun("loadfile", tests, 1)
    worker = Worker()
    joins(schedule, worker, tests)
    lost = schedule.remove_node(first)
    for index in (4, 5):
        schedule.mark_test_complete(worker, index)
    schedule.mark_test_pending(lost)
    for index in (6, 1):
        schedule.mark_test_complete(worker, index)
    assert worker.got == [4, 5, 6, 1, 2, 3, 0]
    assert schedule.remove_node(worker) == tests[2]
    assert schedule.workqueue == {"t_b.py": {tests[3]: False}, "t_a.py": {tests[0]: False}}
