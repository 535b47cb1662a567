from __future__ import annotations

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.pool.demand import Demand

ONE, TWO = Workload("vllm", model="one"), Workload("vllm", model="two")


def test_every_test_counts_until_it_is_over() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(ONE), "t2": Expected(ONE), "t3": Expected(TWO)})
    assert dict(demand.certain) == dict(demand.pending) == {ONE: 2, TWO: 1}
    demand.finished("t1")
    demand.finished("t1")
    assert demand.pending[ONE] == 1
    demand.finished("t2")
    assert (demand.pending[ONE], demand.pending[TWO]) == (0, 1)


def test_a_test_that_may_be_skipped_is_not_certain_until_it_asks() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(ONE, certain=False)})
    assert (demand.certain[ONE], demand.pending[ONE]) == (0, 1)
    demand.needs("t1", ONE)
    assert (demand.certain[ONE], demand.pending[ONE]) == (1, 1)
    demand.finished("t1")
    assert (demand.certain[ONE], demand.pending[ONE]) == (0, 0)


def test_a_need_that_is_unknown_becomes_known_when_the_test_asks() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(ONE), "t2": Expected(None)})
    assert demand.unknown == 1
    demand.needs("t2", TWO)
    assert (demand.unknown, demand.pending[TWO]) == (0, 1)


def test_a_test_that_was_not_expected_counts_while_it_runs() -> None:
    demand = Demand()
    demand.needs("surprise", ONE)
    assert demand.pending[ONE] == 1
    demand.finished("surprise")
    demand.finished("never heard of")
    assert demand.pending[ONE] == 0


def test_a_test_that_runs_in_each_worker_counts_for_each() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(None, runs=3)})
    demand.needs("t1", ONE)
    assert (demand.unknown, demand.pending[ONE]) == (0, 3)
    demand.finished("t1")
    demand.needs("t1", ONE)
    assert demand.pending[ONE] == 2
    demand.finished("t1")
    demand.finished("t1")
    assert demand.pending[ONE] == 0


def test_the_order_is_that_of_the_run() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(TWO), "t2": Expected(ONE), "t3": Expected(ONE)})
    assert list(demand.certain) == [TWO, ONE]
