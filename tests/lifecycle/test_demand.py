from __future__ import annotations

from pytest_vastgpu.lifecycle.demand import Demand
from pytest_vastgpu.model import Workload

ONE, TWO = Workload("vllm", model="one"), Workload("vllm", model="two")


def test_a_workload_is_idle_when_its_last_test_is_over() -> None:
    demand = Demand()
    demand.expect({"t1": ONE, "t2": ONE, "t3": TWO})
    demand.finished("t1")
    assert demand.idle([ONE, TWO]) == []
    demand.finished("t2")
    assert demand.idle([ONE, TWO]) == [ONE]
    demand.finished("t3")
    assert demand.idle([ONE, TWO]) == [ONE, TWO]


def test_nothing_is_idle_while_a_test_has_not_said_what_it_needs() -> None:
    demand = Demand()
    demand.expect({"t1": ONE, "t2": None})
    demand.finished("t1")
    assert demand.idle([ONE]) == []
    demand.needs("t2", TWO)
    assert demand.idle([ONE, TWO]) == [ONE]


def test_a_test_that_was_not_expected_counts_while_it_runs() -> None:
    demand = Demand()
    demand.needs("surprise", ONE)
    assert demand.idle([ONE]) == []
    demand.finished("surprise")
    demand.finished("never heard of")
    assert demand.idle([ONE]) == [ONE]
