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
    demand.asks("w1", "t1", ONE)
    assert (demand.certain[ONE], demand.pending[ONE]) == (1, 1)
    demand.finished("t1")
    assert (demand.certain[ONE], demand.pending[ONE]) == (0, 0)


def test_a_need_that_is_unknown_becomes_known_when_the_test_asks() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(ONE), "t2": Expected(None)})
    assert demand.unknown == 1
    demand.asks("w1", "t2", TWO)
    assert (demand.unknown, demand.pending[TWO]) == (0, 1)


def test_a_test_that_was_not_expected_counts_while_it_runs() -> None:
    demand = Demand()
    demand.asks("w1", "surprise", ONE)
    assert demand.pending[ONE] == 1
    demand.finished("surprise", "w1")
    demand.finished("never heard of", "w1")
    assert demand.pending[ONE] == 0


def test_a_test_that_runs_in_each_worker_counts_for_each() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(None, runs=3)})
    demand.asks("w1", "t1", ONE)
    assert (demand.unknown, demand.pending[ONE], demand.certain[ONE]) == (0, 3, 3)
    demand.answered("w1", "t1", ONE)
    assert (demand.pending[ONE], demand.certain[ONE]) == (3, 2)
    demand.finished("t1", "w1")
    demand.asks("w2", "t1", ONE)
    assert (demand.pending[ONE], demand.certain[ONE]) == (2, 2)
    demand.finished("t1", "w2")
    demand.finished("t1", "w3")
    assert (demand.pending[ONE], demand.certain[ONE]) == (0, 0)


def test_a_test_that_has_had_its_instance_may_ask_again_and_is_not_sure_to() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(ONE), "t2": Expected(ONE)})
    demand.asks("w1", "t1", ONE)
    assert (demand.certain[ONE], demand.pending[ONE]) == (2, 2)
    demand.answered("w1", "t1", ONE)
    assert (demand.certain[ONE], demand.pending[ONE]) == (1, 2)
    demand.asks("w1", "t1", ONE)
    assert (demand.certain[ONE], demand.pending[ONE]) == (2, 2)
    demand.answered("w1", "t1", ONE)
    demand.finished("t1", "w1")
    assert (demand.certain[ONE], demand.pending[ONE]) == (1, 1)


def test_what_a_test_has_had_it_may_ask_for_again_beside_another_workload() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(ONE)})
    for workload in (ONE, TWO):
        demand.asks("w1", "t1", workload)
        demand.answered("w1", "t1", workload)
    assert (dict(demand.pending), demand.certain.total()) == ({ONE: 1, TWO: 1}, 0)
    demand.finished("t1", "w1")
    assert demand.pending.total() == 0


def test_what_a_test_asks_for_first_replaces_what_was_expected_of_it() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(ONE)})
    demand.asks("w1", "t1", TWO)
    assert (demand.pending[ONE], demand.pending[TWO]) == (0, 1)


def test_the_order_is_that_of_the_run() -> None:
    demand = Demand()
    demand.expect({"t1": Expected(TWO), "t2": Expected(ONE), "t3": Expected(ONE)})
    assert list(demand.certain) == [TWO, ONE]
