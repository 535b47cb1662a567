"""The instances of a run without any: what happens is told, what follows is looked at."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import pytest

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import NoRoom
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.supervisor.pool.placement import LINGER_S
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.planner import LeaseRequest
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner
from pytest_vastgpu.supervisor.pool.planner import Slot
from tests.support.quick import only

A, B, C = (Workload("command", command=name) for name in "abc")


class Stage:
    """A planner with its clock, and what it has decided."""

    def __init__(self, limit: int | None = None, workers: int = 1, **tests: Workload | None) -> None:
        self.now = 0.0
        self.planner = PoolPlanner(limit, lambda: self.now)
        self.planner.join("run", workers)
        self.planner.runs["run"].expect({test: Expected(workload) for test, workload in tests.items()})
        self.coming: list[Slot] = []
        self.going: list[Slot] = []
        self.rented: list[Workload] = []

    def plan(self) -> None:
        starts, ends = self.planner.plan()
        self.coming += starts
        self.rented += [slot.workload for slot in starts]
        self.going += ends

    def ask(
        self, test: str, workload: Workload, process: str = "w1", exclusive: bool = False, alone: bool = False
    ) -> LeaseRequest:
        ask = LeaseRequest(process, test, workload, exclusive, "run", alone=alone)
        self.planner.ask(ask)
        self.plan()
        return ask

    def arrive(self, slot: Slot | None = None) -> Slot:
        slot = slot or self.coming[0]
        self.coming.remove(slot)
        self.planner.arrived(slot, f"label {slot.number}")
        self.plan()
        return slot

    def fail(self, error: BaseException, *, scarce: bool = False) -> None:
        self.planner.failed(self.coming.pop(0), error, scarce)
        self.plan()

    def served(self, ask: LeaseRequest) -> Slot | None:
        slot = self.planner.answer(ask)
        if slot is not None:
            self.planner.withdraw(ask)
        self.plan()
        return slot

    def lets_go(self, test: str, process: str = "w1") -> None:
        self.planner.done(process, test)
        self.plan()

    def over(self, test: str, process: str = "w1") -> None:
        self.planner.done(process, test)
        self.planner.runs["run"].finished(test, process)
        self.plan()

    def lose(self, slot: Slot) -> None:
        self.planner.retire(slot)
        self.going.append(slot)
        self.plan()

    def gone(self) -> None:
        slot = self.going.pop(0)
        if slot in self.coming:
            self.coming.remove(slot)
        self.planner.gone(slot)
        self.plan()


def test_what_is_needed_is_rented_before_anybody_asks_once() -> None:
    stage = Stage(t1=A, t2=B, t3=B)
    stage.plan()
    assert stage.rented == [B, A]
    ask = stage.ask("t1", A)
    assert stage.served(ask) is None
    slot = stage.arrive(stage.coming[1])
    assert stage.served(ask) is slot
    stage.over("t1")
    assert stage.going == [slot]
    assert stage.rented == [B, A]


def test_one_that_is_on_its_way_in_vain_is_called_off() -> None:
    stage = Stage(t1=A)
    stage.plan()
    stage.over("t1")
    assert stage.going == stage.coming
    stage.gone()
    assert not stage.planner.slots


def test_a_failure_is_shared_and_told_once() -> None:
    stage = Stage(t1=A, t2=A)
    stage.plan()
    stage.fail(ProvisioningFailed("the whole\nstory"))
    with pytest.raises(ProvisioningFailed, match="the whole\nstory"):
        stage.served(stage.ask("t1", A))
    stage.over("t1")
    with pytest.raises(ProvisioningFailed, match=r"^not rented again in this run: the whole \(the whole story: t1\)$"):
        stage.served(stage.ask("t2", A))
    assert stage.rented == [A]


def test_a_replica_may_fail_as_long_as_one_lives() -> None:
    stage = Stage(limit=2, workers=2, t1=A, t2=A, t3=A)
    stage.plan()
    assert stage.rented == [A, A]
    stage.fail(ProvisioningFailed("no"))
    ask = stage.ask("t1", A)
    slot = stage.arrive()
    assert stage.served(ask) is slot
    assert stage.rented == [A, A]  # no third


def test_when_the_last_of_all_fails_the_tests_hear_of_it() -> None:
    stage = Stage(limit=2, workers=2, t1=A, t2=A)
    stage.plan()
    ask = stage.ask("t1", A)
    stage.fail(ProvisioningFailed("first"))
    assert stage.served(ask) is None
    stage.fail(ProvisioningFailed("second"))
    with pytest.raises(ProvisioningFailed, match="second"):
        stage.served(ask)


def test_what_the_budget_refuses_waits_for_what_another_one_gives_back() -> None:
    stage = Stage(t1=A, t2=B)
    stage.plan()
    stage.fail(VastGpuError("too dear"), scarce=True)
    first = stage.arrive()
    assert first.workload == B
    stage.plan()
    assert stage.rented == [A, B]  # not again and again
    ask = stage.ask("t1", A)
    assert ask.lacks_room
    assert stage.going == [first]  # no other process can ask for it: the only one waits
    stage.gone()
    assert stage.rented == [A, B, A]
    assert stage.served(ask) is None
    stage.arrive()
    assert stage.served(ask) is not None


def test_what_the_budget_refuses_with_nothing_else_alive_fails() -> None:
    stage = Stage(t1=A)
    stage.plan()
    stage.fail(VastGpuError("too dear"), scarce=True)
    with pytest.raises(VastGpuError, match="too dear"):
        stage.served(stage.ask("t1", A))


def test_a_refusal_that_came_too_late_is_tried_again() -> None:
    stage = Stage(t1=A, t2=B)
    stage.plan()
    stage.arrive(stage.coming[1])
    stage.over("t2")
    stage.gone()  # while the budget still counts it for A
    stage.fail(VastGpuError("too dear"), scarce=True)
    assert stage.rented == [A, B, A]


def test_want_of_machines_that_are_not_ours_is_final() -> None:
    stage = Stage(t1=A, t2=B)
    stage.plan()
    stage.fail(NoOffers("none"))
    with pytest.raises(NoOffers, match="none"):
        stage.served(stage.ask("t1", A))


def test_an_instance_of_ones_own_is_nobody_elses() -> None:
    stage = Stage(t1=A)
    stage.plan()
    mine = stage.ask("own", A, exclusive=True)
    stage.arrive(stage.coming[1])
    assert stage.served(stage.ask("t1", A, process="w2")) is None
    slot = stage.served(mine)
    assert slot is not None
    assert slot.number == 2
    stage.over("own")
    assert stage.going == [slot]


def test_one_that_comes_for_a_test_that_is_gone_is_called_off() -> None:
    stage = Stage()
    mine = stage.ask("own", A, exclusive=True)
    stage.planner.withdraw(mine)
    stage.plan()
    assert stage.going == stage.coming


def test_a_test_that_holds_all_and_asks_for_more_is_told_at_once() -> None:
    stage = Stage(limit=2)
    for number in (1, 2):
        ask = stage.ask("t", A, exclusive=True)
        stage.arrive()
        assert stage.served(ask) is not None, number
    with pytest.raises(NoRoom, match="holds all 2 instances that --vast-max-instances 2 allows"):
        stage.served(stage.ask("t", A, exclusive=True))


def test_tests_that_hold_and_wait_for_each_other_do_not_wait_for_ever() -> None:
    stage = Stage(limit=2, workers=2)
    for process in ("w1", "w2"):
        ask = stage.ask(f"test of {process}", A, process, exclusive=True)
        stage.arrive()
        assert stage.served(ask) is not None
    first = stage.ask("test of w1", A, "w1", exclusive=True)
    assert stage.served(first) is None  # the other one may end
    second = stage.ask("test of w2", A, "w2", exclusive=True)
    with pytest.raises(NoRoom, match="is held by a test that waits for one more itself"):
        stage.served(second)
    stage.planner.withdraw(second)
    stage.over("test of w2", "w2")
    stage.gone()
    stage.arrive()
    assert stage.served(first) is not None


def test_an_unused_instance_lingers_while_somebody_may_be_on_the_way_to_it() -> None:
    stage = Stage(limit=1, workers=2, a1=A, a2=A, b=B)
    stage.plan()
    ask = stage.ask("a1", A)
    slot = stage.arrive()
    assert stage.served(ask) is slot
    other = stage.ask("b", B, "w2")
    stage.over("a1")
    assert stage.going == []
    stage.now += LINGER_S / 2
    stage.plan()
    assert stage.going == []
    assert stage.served(stage.ask("a2", A)) is slot
    stage.over("a2")
    assert stage.going == [slot]  # needed no more
    stage.gone()
    stage.arrive()
    assert stage.served(other) is not None


def test_it_is_rented_again_where_it_is_still_needed_afterwards() -> None:
    stage = Stage(limit=1, a1=A, b=B, a2=A)
    stage.plan()
    for test, workload in (("a1", A), ("b", B), ("a2", A)):
        ask = stage.ask(test, workload)
        while stage.going:
            stage.gone()
        if stage.coming:
            stage.arrive()
        assert stage.served(ask) is not None
        stage.over(test)
    assert stage.rented == [A, B, A]


def test_a_process_that_ends_lets_go_of_everything() -> None:
    stage = Stage(limit=2, workers=2, t1=A)
    ask = stage.ask("t1", A)
    shared = stage.arrive()
    stage.served(ask)
    mine = stage.ask("t1", B, exclusive=True)
    own = stage.arrive()
    stage.served(mine)
    stage.planner.done("w1")
    stage.plan()
    assert stage.going == [own]
    stage.planner.runs["run"].finished("t1")
    stage.plan()
    assert stage.going == [own, shared]


def test_who_used_what_and_for_how_long_is_known() -> None:
    stage = Stage(t1=A, t2=A)
    stage.plan()
    first, second = stage.ask("t1", A), stage.ask("t2", A, "w2")
    stage.now = 1
    slot = stage.arrive()
    stage.served(first)
    stage.now = 3
    stage.served(second)
    stage.now = 4
    stage.over("t1")
    assert stage.planner.uses() == [Use("t1", slot.label, 1, 4, "run"), Use("t2", slot.label, 3, float("inf"), "run")]
    stage.planner.gone(slot)
    assert stage.planner.uses() == [Use("t1", slot.label, 1, 4, "run"), Use("t2", slot.label, 3, 4, "run")]


def test_a_test_that_measures_has_a_shared_instance_alone() -> None:
    stage = Stage(t1=A, t2=A, t3=A, t4=A)
    first = stage.ask("t1", A, "w1")
    slot = stage.arrive()
    assert stage.served(first) is slot
    alone = stage.ask("t2", A, "w2", alone=True)
    later = stage.ask("t3", A, "w3")
    assert stage.served(alone) is None, "another test uses it"
    assert stage.served(later) is None, "or it would never be unused"
    stage.over("t1", "w1")
    assert stage.served(later) is None
    assert stage.served(alone) is slot
    assert stage.planner.about_to_be_shared() == [], "nobody looks at it meanwhile"
    assert stage.served(later) is None
    stage.lets_go("t2", "w2")
    assert stage.planner.about_to_be_shared() == [slot]
    assert stage.served(later) is slot
    assert stage.rented == [A], "and none is rented beside"


def test_tests_that_wait_for_each_other_because_one_has_an_instance_alone_do_not_wait_for_ever() -> None:
    stage = Stage(limit=2, workers=2, t1=A, t2=A)
    own = stage.ask("t2", B, "w2", exclusive=True)
    stage.arrive(next(slot for slot in stage.coming if slot.workload == B))
    assert stage.served(own)
    alone = stage.ask("t1", A, "w1", alone=True)
    stage.arrive()
    assert stage.served(alone)
    assert stage.served(stage.ask("t2", A, "w2")) is None
    with pytest.raises(NoRoom, match="held by a test that waits for one more itself"):
        stage.served(stage.ask("t1", C, "w1", exclusive=True))


@dataclass
class Worker:
    """Runs tests one after another; each asks for its instances one after another."""

    name: str
    tests: list[tuple[str, Sequence[tuple[Workload, bool]]]]
    wants: list[tuple[Workload, bool]] = field(default_factory=list)
    running: str = ""
    ask: LeaseRequest | None = None


def _play(seed: int) -> None:
    """A run with workers, tests and a limit by chance, in which things happen by chance."""
    luck = random.Random(seed)
    limit = luck.choice([None, 1, 2, 3, 5])
    count = luck.randint(1, 6)
    plain = luck.random() < 0.5
    tests = {f"t{number}": luck.choice([A, A, A, B, B, C]) for number in range(luck.randint(1, 25))}
    known = {test: workload if luck.random() < 0.9 else None for test, workload in tests.items()}
    stage = Stage(limit, count, **known)
    workers = [Worker(f"w{number}", []) for number in range(count)]
    alone = {test for test in tests if luck.random() < 0.3}
    for test, workload in tests.items():
        more = [] if plain else [(luck.choice([A, B]), True) for _ in range(luck.choice([0, 0, 0, 1, 2]))]
        order = [(workload, False), *more]
        luck.shuffle(order)
        luck.choice(workers).tests.append((test, order))
    passed = errors = 0
    stage.plan()
    for _ in range(20_000):
        busy = [worker for worker in workers if worker.tests or worker.running]
        if not busy:
            break
        stage.now += luck.choice([0.0, 0.1, 2.0])
        stage.plan()
        happens = luck.random()
        if happens < 0.2 and stage.coming:
            slot = luck.choice(stage.coming)
            if slot not in stage.going:
                stage.arrive(slot)
        elif happens < 0.4 and stage.going:
            luck.shuffle(stage.going)
            stage.gone()
        else:
            worker = luck.choice(busy)
            if (ask := worker.ask) is not None:
                try:
                    if stage.served(ask) is not None:
                        worker.ask = None
                except VastGpuError:
                    stage.planner.withdraw(ask)
                    worker.ask, worker.wants = None, []
                    errors += 1
                    passed -= 1
            elif worker.wants:
                workload, exclusive = worker.wants.pop(0)
                own_use = not exclusive and worker.running in alone
                worker.ask = stage.ask(worker.running, workload, worker.name, exclusive, own_use)
            elif worker.running:
                stage.over(worker.running, worker.name)
                worker.running = ""
                passed += 1
            else:
                worker.running, wants = worker.tests.pop(0)
                worker.wants = list(wants)
        alive = stage.planner.slots.values()
        assert limit is None or len(alive) <= limit
        assert all(len(slot.holds) == 1 for slot in alive if any(hold.alone for hold in slot.holds))
        for workload in (A, B, C):
            shared = [slot for slot in alive if slot.workload == workload and slot.owner is None]
            assert len([slot for slot in shared if slot.phase is not SlotPhase.ENDING]) <= (
                1 if limit is None else count
            )
    else:
        raise AssertionError(f"seed {seed}: not over after 20,000 steps")
    assert passed + errors == len(tests)
    assert errors == 0 or not plain, "nobody who holds nothing else is refused"
    while stage.going:
        stage.gone()
    assert not stage.planner.slots, "everything goes back when no test is left"
    if limit is None and plain:
        assert max(Counter(stage.rented).values()) == 1


@pytest.mark.parametrize("lot", only([0], range(5)))
def test_whatever_happens_all_tests_are_served_within_the_limit_and_everything_goes_back(lot: int) -> None:
    for seed in range(lot * 30, lot * 30 + 30):
        _play(seed)


def test_one_that_leaves_goes_when_its_tests_are_over_and_another_takes_its_place() -> None:
    stage = Stage(t1=A, t2=A)
    stage.plan()
    slot = stage.arrive()
    assert stage.served(stage.ask("t1", A)) is slot
    stage.planner.leave(slot)
    stage.plan()
    second = stage.ask("t2", A, "w2")
    assert stage.served(second) is None
    assert stage.going == []
    assert stage.rented == [A, A]
    stage.over("t1")
    assert stage.going == [slot]
    other = stage.arrive()
    assert stage.served(second) is other


def test_one_whose_server_is_in_doubt_comes_again_and_no_other_is_rented_meanwhile() -> None:
    stage = Stage(workers=2, t1=A, t2=A, t3=A)
    first = stage.ask("t1", A)
    slot = stage.arrive()
    assert stage.served(first) is slot
    stage.planner.doubt(slot)
    second = stage.ask("t2", A, process="w2")
    assert stage.served(second) is None
    stage.over("t1")
    assert (stage.rented, stage.going) == ([A], [])
    assert stage.planner.of(slot.label) is slot, "it can end meanwhile"
    stage.planner.arrived(slot, slot.label)
    assert stage.served(second) is slot


def test_one_is_looked_at_once_for_each_test_that_waits() -> None:
    stage = Stage(own=A)
    stage.plan()
    slot = stage.arrive()
    assert stage.planner.about_to_be_shared() == [], "no test waits"
    first = stage.ask("one", A)
    assert stage.planner.about_to_be_shared() == [slot]
    stage.planner.doubt(slot)
    stage.planner.arrived(slot, slot.label)
    second = stage.ask("two", A, "w2")
    assert stage.planner.about_to_be_shared() == [], "it was just looked at for the first"
    assert stage.served(first) is slot
    assert stage.planner.about_to_be_shared() == [slot]
    assert stage.served(second) is slot


def test_one_that_leaves_before_the_test_it_is_for_has_it_is_replaced() -> None:
    stage = Stage()
    ask = stage.ask("t1", A, exclusive=True)
    slot = stage.arrive()
    stage.planner.leave(slot)
    stage.plan()
    assert stage.going == [slot]
    assert stage.served(ask) is None
    other = stage.arrive()
    assert stage.served(ask) is other is not slot


def test_a_test_that_is_tried_again_has_the_same_instance_also_the_last_of_the_run() -> None:
    stage = Stage(t1=A)
    slots = set()
    for _ in range(3):
        ask = stage.ask("t1", A)
        if stage.coming:
            stage.arrive()
        slots.add(stage.served(ask))
        stage.lets_go("t1")
    assert stage.going == []
    stage.over("t1")
    assert stage.rented == [A]
    assert stage.going == list(slots)


def test_of_several_instances_the_next_try_has_the_one_that_the_test_had() -> None:
    stage = Stage(limit=2, workers=2, t1=A, t2=A, t3=A)
    stage.plan()
    stage.arrive()
    second = stage.arrive()
    first = stage.served(stage.ask("t2", A, "w2"))
    assert stage.served(stage.ask("t1", A)) is second is not first
    stage.over("t2", "w2")
    stage.lets_go("t1")
    assert stage.served(stage.ask("t1", A)) is second


def test_one_that_comes_for_a_test_is_not_ended_where_the_test_is_said_to_be_over() -> None:
    stage = Stage(workers=2, t1=A)
    ask = stage.ask("t1", A, "w2")
    stage.planner.runs["run"].finished("t1")  # of another process, which has crashed while it ran it
    for _ in range(3):
        stage.plan()
    assert stage.rented == [A]
    assert stage.going == []
    slot = stage.arrive()
    assert stage.served(ask) is slot
    stage.over("t1", "w2")
    assert stage.going == [slot]


def test_nothing_is_rented_in_advance_for_a_test_that_has_had_its_instance() -> None:
    stage = Stage(t1=A)
    ask = stage.ask("t1", A)
    slot = stage.arrive()
    assert stage.served(ask) is slot
    stage.lose(slot)
    stage.gone()
    assert stage.rented == [A]
    again = stage.ask("t1", A)
    assert stage.rented == [A, A], "but for its next try"
    other = stage.arrive()
    assert stage.served(again) is other


def test_after_a_loss_the_tests_to_come_get_another_one_in_advance() -> None:
    stage = Stage(t1=A, t2=A)
    stage.plan()
    slot = stage.arrive()
    stage.served(stage.ask("t1", A))
    stage.lose(slot)
    assert stage.rented == [A, A]


def test_what_no_test_has_used_in_its_life_is_not_replaced_until_a_test_asks() -> None:
    stage = Stage(t1=A, t2=A, t3=B)
    stage.plan()
    slot = stage.arrive()
    stage.served(stage.ask("t1", A))  # and hangs
    stage.lose(slot)
    assert stage.rented == [A, B, A]
    for unused in (stage.arrive(), stage.arrive()):
        stage.lose(unused)
    assert stage.rented == [A, B, A]
    stage.over("t1")
    ask = stage.ask("t2", A)
    assert stage.rented == [A, B, A, A]
    stage.lose(stage.arrive())
    assert stage.rented == [A, B, A, A, A], "it waits for one"
    assert stage.served(ask) is None


def test_the_whole_story_is_told_in_each_try_of_the_test_that_was_told_it() -> None:
    stage = Stage(t1=A, t2=A)
    stage.plan()
    stage.fail(ProvisioningFailed("the whole\nstory"))
    for _ in range(2):
        with pytest.raises(ProvisioningFailed, match="the whole\nstory"):
            stage.served(stage.ask("t1", A))
    with pytest.raises(ProvisioningFailed, match=r"the whole story: t1"):
        stage.served(stage.ask("t2", A))


def test_one_that_is_lost_before_the_test_it_is_for_has_it_is_replaced() -> None:
    stage = Stage()
    ask = stage.ask("t1", A, exclusive=True)
    slot = stage.arrive()
    stage.lose(slot)
    assert stage.rented == [A, A]
    other = stage.arrive()
    assert stage.served(ask) is other is not slot


def test_one_that_has_come_for_a_test_makes_room_for_no_other() -> None:
    stage = Stage(limit=1, workers=2, t1=A, t2=B)
    first = stage.ask("t1", A)
    slot = stage.arrive()
    stage.ask("t2", B, "w2")
    stage.now += 2 * LINGER_S  # the first one has not looked yet
    stage.plan()
    assert stage.going == []
    assert stage.served(first) is slot
