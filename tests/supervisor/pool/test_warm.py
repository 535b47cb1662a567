"""Instances that outlive the run that rented them, and runs that share them: plans, and the pool in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.pool import placement
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.placement import SlotView
from pytest_vastgpu.supervisor.pool.planner import LeaseRequest
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner
from pytest_vastgpu.supervisor.pool.planner import Slot
from pytest_vastgpu.supervisor.rental.rental import Rental
from tests.supervisor.pool.test_pool import Scene
from tests.support.lives import RUN
from tests.support.looks import until
from tests.support.memory import Script

A, B = (Workload("command", command=name) for name in "ab")
WARM_S = 60.0


def no(_slot: Slot, _workload: Workload) -> bool:
    """No instance may run another workload."""
    return False


class Stage:
    """A planner whose first run has left a warm instance of A."""

    def __init__(self) -> None:
        self.now = 0.0
        self.planner = PoolPlanner(None, lambda: self.now)
        self.planner.join("one", warm_s=WARM_S)
        self.planner.runs["one"].expect({"t": Expected(A)})
        ((self.slot,), _) = self.planner.plan()
        self.planner.arrived(self.slot, "label")
        self.planner.over("one")
        self.planner.waits(self.slot, self.planner.warm_s("one"))

    def join(self, workload: Workload, run: str = "two") -> None:
        self.planner.join(run)
        self.planner.runs[run].expect({"t": Expected(workload)})


def test_it_waits_for_its_time_and_is_given_back_then() -> None:
    stage = Stage()
    stage.now = WARM_S - 1
    assert stage.planner.plan() == ([], [])
    stage.now = WARM_S
    assert stage.planner.plan() == ([], [stage.slot])


def test_a_run_that_needs_it_gets_it_only_after_a_look() -> None:
    stage = Stage()
    stage.join(A)
    ask = LeaseRequest("p", "t", A, False, "two")
    stage.planner.ask(ask)
    assert stage.planner.answer(ask) is None
    assert stage.planner.wanted() == [stage.slot]
    stage.planner.checks(stage.slot)
    assert stage.planner.wanted() == [], "once"
    assert (stage.slot.run, stage.planner.answer(ask)) == ("two", None)
    assert stage.planner.plan() == ([], []), "nothing else is rented meanwhile"
    stage.planner.arrived(stage.slot, "label")
    assert stage.planner.answer(ask) is stage.slot


def test_another_run_does_not_change_how_long_it_waits() -> None:
    stage = Stage()
    stage.planner.join("two", warm_s=10 * WARM_S)
    stage.now = WARM_S
    assert stage.planner.plan() == ([], [stage.slot]), "no money is set aside for longer"


def test_what_is_rented_in_its_place_is_given_back_when_no_test_needs_it() -> None:
    stage = Stage()
    stage.join(A)
    stage.planner.checks(stage.slot)
    stage.planner.call_off("two")
    assert stage.planner.plan() == ([], []), "while it is looked at it may still be of use"
    stage.planner.rents_anew(stage.slot)
    assert stage.planner.of("label") is None
    assert stage.planner.plan() == ([], [stage.slot])


def test_a_run_that_does_not_need_it_leaves_it_alone() -> None:
    stage = Stage()
    stage.join(B)
    assert stage.planner.wanted() == stage.planner.to_take_over(no) == []
    (started,), ends = stage.planner.plan()
    assert (started.workload, ends) == (B, [])


def test_a_run_that_needs_another_workload_takes_it_over_where_that_fits() -> None:
    stage = Stage()
    stage.join(B)
    assert stage.planner.to_take_over(no) == []
    assert stage.planner.to_take_over(lambda slot, workload: (slot, workload) == (stage.slot, B)) == [stage.slot]
    assert stage.slot.workload == B
    stage.planner.checks(stage.slot)
    assert stage.planner.wanted() == stage.planner.to_take_over(lambda _slot, _workload: True) == [], "once"
    assert stage.planner.plan() == ([], [])


def test_what_another_run_needs_is_not_taken_over() -> None:
    stage = Stage()
    stage.join(A)
    stage.join(B, "three")
    assert stage.planner.to_take_over(lambda _slot, _workload: True) == []
    assert stage.planner.wanted() == [stage.slot]


def test_what_failed_for_one_run_is_tried_again_for_the_next() -> None:
    stage = Stage()
    stage.join(B)
    (slot,), _ = stage.planner.plan()
    stage.planner.failed(slot, ValueError("no"), scarce=False)
    assert stage.planner.plan() == ([], [])
    stage.join(B, "three")
    (again,), _ = stage.planner.plan()
    assert again.workload == B


def test_for_a_request_of_a_run_that_is_over_nothing_is_rented() -> None:
    stage = Stage()
    stage.planner.join("two")
    for exclusive in (False, True):
        stage.planner.ask(LeaseRequest("p", f"t{exclusive}", B, exclusive, "two"))
    stage.planner.call_off("two")
    assert stage.planner.plan() == ([], []), "the threads that wait have not learnt it yet"
    stage.planner.ask(LeaseRequest("p", "t", A, False, "two"))
    assert stage.planner.wanted() == []
    assert stage.planner.to_take_over(lambda _slot, _workload: True) == []


def test_what_fails_for_one_run_is_not_the_failure_of_another() -> None:
    stage = Stage()
    stage.join(B)
    stage.join(B, "three")
    asks = [LeaseRequest(run, "t", B, False, run) for run in ("two", "three")]
    for ask in asks:
        stage.planner.ask(ask)
    (slot,), _ = stage.planner.plan()
    assert slot.run == "two"
    stage.planner.failed(slot, BudgetSpent("no money"), scarce=False)
    with pytest.raises(BudgetSpent, match="no money"):
        stage.planner.answer(asks[0])
    assert stage.planner.answer(asks[1]) is None
    (again,), _ = stage.planner.plan()
    assert again.run == "three"
    stage.planner.arrived(again, "another label")
    assert stage.planner.answer(asks[1]) is again


def test_only_what_the_same_budget_pays_for_makes_room_in_it() -> None:
    stage = Stage()
    stage.join(B)
    ask = LeaseRequest("p", "t", B, False, "two")
    stage.planner.ask(ask)
    (slot,), _ = stage.planner.plan()
    stage.now = 30.0
    stage.planner.failed(slot, BudgetSpent("no money"), scarce=True)
    assert stage.planner.plan() == ([], []), "what is warm costs the first run's money"
    stage.slot.run = "two"
    assert stage.planner.plan() == ([], [stage.slot])


def test_the_end_of_a_run_ends_its_uses_and_no_others() -> None:
    stage = Stage()
    stage.join(A)
    stage.join(A, "three")
    stage.planner.arrived(stage.slot, "label")
    stage.slot.phase = SlotPhase.READY
    for run in ("two", "three"):
        ask = LeaseRequest(run, "t", A, False, run)
        stage.planner.ask(ask)
        assert stage.planner.answer(ask) is stage.slot
        stage.planner.withdraw(ask)
    stage.planner.over("two")
    assert [(use.run, use.end > stage.now) for use in stage.planner.uses()] == [("two", False), ("three", True)]


@pytest.mark.parametrize(
    ("phase", "users", "pending", "taken"),
    [
        (SlotPhase.WARM, (), 0, True),
        (SlotPhase.WARM, (), 1, False),
        (SlotPhase.WARM, ("p",), 0, False),
        (SlotPhase.READY, (), 0, False),
        (SlotPhase.CHECKING, (), 0, False),
        (SlotPhase.ENDING, (), 0, False),
    ],
)
def test_only_what_waits_and_serves_none_is_taken_over(
    phase: SlotPhase, users: tuple[str, ...], pending: int, taken: bool
) -> None:
    place = SlotView(1, A, phase, users=users)
    assert placement.to_take_over([place], {A: pending}) == ([place] if taken else [])


def test_what_is_being_looked_at_makes_no_room() -> None:
    places = [SlotView(number, A, phase, unused_s=99) for number, phase in enumerate((SlotPhase.CHECKING,))]
    assert placement.to_make_room(places, {}, all_wait=True) is None
    assert placement.to_make_room([SlotView(1, A, SlotPhase.WARM, unused_s=99)], {}, all_wait=False) is not None


# ------------------------------------------------------------------- the pool


class Desk(Scene):
    """A pool that keeps its instances warm, and the runs that use it."""

    def __init__(self, directory: Path, *scripts: Script) -> None:
        super().__init__(directory, *scripts)
        self.pool.join(RUN, warm_s=600.0)
        self.first = self.rent("one")

    def join(self, run: str, budget: float = 5.0) -> None:
        settings, clock = self.life.services.settings, self.life.clock
        self.life.budgets.join(run, Budget(budget, settings.longest_life, clock.monotonic))
        self.pool.join(run, warm_s=600.0)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, Script(), Script())
    yield desk
    desk.pool.close()
    assert desk.life.provider.instances == {}


def test_what_a_run_leaves_waits_and_its_budget_pays(desk: Desk) -> None:
    desk.life.clock.sleep(100)
    desk.pool.leave(RUN)
    assert desk.pool.left_by(RUN) == []
    ((rental, idle_s, left_s),) = desk.pool.warm()
    assert (rental, idle_s, left_s) == (desk.first, 0.0, 600.0)
    before_usd = desk.pool.books.of(RUN)[0].attempt.cost_usd
    desk.life.clock.sleep(300)
    (cost,) = desk.pool.books.of(RUN)
    assert cost.idle_usd == pytest.approx(rental.cost.usd_h * 300 / 3600)
    assert cost.attempt.cost_usd == pytest.approx(before_usd + cost.idle_usd)
    desk.pool.close()
    assert rental.state is State.GONE


def test_what_serves_another_workload_is_taken_by_one_thread(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    other = command("serve something else", gpus=0)
    taken: list[Rental] = []
    end = threading.Event()

    def use_again(rental: Rental, _workload: Workload, _adapter: Adapter, _cancel: CancelToken) -> None:
        taken.append(rental)
        end.wait(30)

    monkeypatch.setattr(desk.provisioner, "use_again", use_again)
    desk.pool.leave(RUN)
    desk.join("two")
    desk.pool.expect("two", {"t": Expected(other)})
    threads = [thread for thread in threading.enumerate() if thread.name == f"vastgpu-reuse-{desk.first.label}"]
    end.set()
    for thread in threads:
        thread.join(30)
    assert (len(threads), taken) == (1, [desk.first])


def test_a_run_does_not_wait_for_a_look_that_it_needs_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, end = threading.Event(), threading.Event()

    def use_again(_rental: Rental, _workload: Workload, _adapter: Adapter, _cancel: CancelToken) -> None:
        looks.set()
        end.wait(30)

    monkeypatch.setattr(desk.provisioner, "use_again", use_again)
    desk.pool.done("one", "one")
    desk.pool.leave(RUN)
    desk.join("two")
    desk.pool.expect("two", {"t": Expected(desk.workload)})
    assert looks.wait(30)
    assert desk.pool.warm() == [], "the second run is about to get it"
    desk.pool.call_off("two")
    desk.pool.leave("two")
    assert (desk.pool.gives_back("two"), desk.pool.left_by("two")) == (False, [])
    assert [rental for rental, *_ in desk.pool.warm()] == [desk.first]
    (thread,) = [each for each in threading.enumerate() if each.name == f"vastgpu-reuse-{desk.first.label}"]
    end.set()
    thread.join(30)
    desk.life.clock.sleep(300)
    assert desk.pool.books.of("two")[0].idle_usd > 0
    assert [rental for rental, *_ in desk.pool.warm()] == [desk.first]


def test_a_machine_that_failed_in_an_earlier_run_is_not_said_to_have_failed_in_this_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: dict[str, frozenset[int]] = {}

    def find(run: str, _workload: Workload, machines: frozenset[int], _gone: frozenset[int]) -> list[Offer]:
        failed[run] = machines
        raise NoOffers("no offers: none is there")

    def needs_another(run: str) -> None:
        desk.pool.expect(run, {"t": Expected(command("serve", image="another/image", gpus=1))})
        until(lambda: run in failed, bool)

    monkeypatch.setattr(desk.provisioner, "find", find)
    desk.provisioner.avoid(7)
    desk.join("two")
    needs_another("two")
    assert failed["two"] == {7}, "the run in which it failed goes on"
    desk.pool.leave(RUN)
    desk.pool.leave("two")
    desk.join("three")
    needs_another("three")
    assert failed["three"] == frozenset()


def test_what_nothing_would_end_if_this_machine_died_is_not_kept_warm(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Script(no_switch=True))
    desk.pool.done("one", "one")
    desk.pool.leave(RUN)
    assert desk.pool.warm() == []
    until(lambda: desk.first.state, lambda state: state is State.GONE)
    assert "is given back: it has no dead man's switch" in desk.events()
    desk.pool.close()


def test_an_offer_that_was_refused_keeps_nobody_waiting(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Script(refused="no such ask"), Script())
    assert len(desk.pool.registry.alive()) == 2, "the attempt on it is never gone, since it never was there"
    desk.pool.leave(RUN)
    assert (desk.pool.left_by(RUN), desk.pool.gives_back(RUN), desk.pool.is_of_no_use) == ([], False, False)
    desk.life.clock.sleep(620)
    until(lambda: desk.pool.is_of_no_use, bool)


def test_an_instance_that_resists_is_left_to_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def resists(*_: object) -> None:
        raise MarketError("HTTP 503")

    desk.pool.leave(RUN)
    with monkeypatch.context() as patch:
        patch.setattr(desk.life.provider, "destroy", resists)
        desk.life.clock.sleep(620)
        until(lambda: desk.pool.problems, bool)
        until(lambda: desk.pool.is_of_no_use, bool)
    assert desk.pool.left_by(RUN) == [desk.first]


def test_what_resists_is_left_to_the_end_also_beside_what_is_warm(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.pool.acquire(RUN, "t", command("another", gpus=1), False, "p", lambda: False)
    desk.pool.leave(RUN)
    assert not desk.pool.is_of_no_use
    destroy = desk.life.provider.destroy

    def resists(instance_id: int) -> None:
        if instance_id == desk.first.instance_id:
            raise MarketError("HTTP 503")
        destroy(instance_id)

    with monkeypatch.context() as patch:
        patch.setattr(desk.life.provider, "destroy", resists)
        desk.pool.release(desk.first.label)
        until(lambda: desk.pool.problems, bool)
        until(lambda: desk.pool.is_of_no_use, bool)
    assert len(desk.pool.warm()) == 1


def test_what_a_run_leaves_waits_as_long_as_that_run_has_said(desk: Desk) -> None:
    desk.pool.join("two", warm_s=60.0)
    desk.pool.leave(RUN)
    ((_, _, left_s),) = desk.pool.warm()
    assert left_s == 600.0


def test_what_the_end_gives_back_is_not_warm(desk: Desk) -> None:
    desk.pool.leave(RUN)
    desk.pool.close()
    assert desk.pool.warm() == []


def test_a_run_waits_for_no_test_of_another_one(desk: Desk) -> None:
    desk.join("two", budget=0.0001)
    label = desk.pool.acquire("two", "t", desk.workload, False, "p", lambda: False)
    desk.pool.leave(RUN)
    assert desk.life.budgets.payer(label) == RUN, "the other one cannot pay"
    assert (desk.pool.gives_back(RUN), desk.pool.left_by(RUN)) == (False, [])


def test_what_waits_too_long_is_gone(desk: Desk) -> None:
    desk.pool.done("one", "one")
    desk.pool.leave(RUN)
    desk.life.clock.sleep(590)
    assert desk.first.state is State.READY
    desk.life.clock.sleep(20)
    until(lambda: desk.first.state, lambda state: state is State.GONE)
    assert [each.bill.gone for each in desk.pool.books.of(RUN)] == [True]


def test_a_run_that_uses_what_another_one_pays_for_goes_on_paying_for_it(desk: Desk) -> None:
    desk.join("two")
    label = desk.pool.acquire("two", "t", desk.workload, False, "p", lambda: False)
    assert label == desk.first.label
    age_s = desk.first.age_s
    desk.life.clock.sleep(360)
    (two,) = desk.pool.books.of("two")
    assert (two.bill.cost_usd, two.attempt.reused_at_s) == (0.0, age_s), "the first run pays"
    desk.pool.leave(RUN)
    assert desk.pool.warm() == []
    assert desk.life.budgets.payer(label) == "two"
    desk.life.clock.sleep(360)
    (one,), (two,) = desk.pool.books.of(RUN), desk.pool.books.of("two")
    assert two.bill.cost_usd == pytest.approx(desk.first.cost.usd_h * 0.1)
    assert one.bill.cost_usd + two.bill.cost_usd == pytest.approx(desk.first.cost.usd)
    assert "t" in two.shares.tests


def test_an_instance_that_has_become_too_dear_for_the_heir_ends_with_its_tests(desk: Desk) -> None:
    desk.join("two", budget=0.0001)
    label = desk.pool.acquire("two", "t", desk.workload, False, "p", lambda: False)
    desk.pool.leave(RUN)
    assert "is given back: an instance that is there already could cost" in desk.events()
    slot: Slot | None = desk.pool._planner.of(label)
    assert slot is not None
    assert slot.phase is SlotPhase.LEAVING
    assert desk.first.state is State.READY, "its test goes on"


def test_a_run_that_cannot_pay_rents_nothing_either(desk: Desk) -> None:
    desk.pool.leave(RUN)
    desk.join("two", budget=0.0001)
    with pytest.raises(Exception, match=r"more than --vast-budget 0\.0001 USD"):
        desk.pool.acquire("two", "t", desk.workload, False, "p", lambda: False)
    assert [rental for rental, _, _ in desk.pool.warm()] == [desk.first], "it waits for a run that can"
    assert desk.life.budgets.payer(desk.first.label) == RUN


def test_a_run_without_money_leaves_alone_what_is_warm(desk: Desk) -> None:
    desk.pool.leave(RUN)
    desk.join("two", budget=0.0001)
    desk.life.clock.sleep(10)
    ends = time.monotonic() + 30
    with pytest.raises(BudgetSpent):
        desk.pool.acquire("two", "t", command("another", gpus=2), False, "p", lambda: time.monotonic() > ends)
    assert [rental for rental, _, _ in desk.pool.warm()] == [desk.first]


def test_what_a_test_of_a_run_that_was_called_off_uses_is_not_warm(desk: Desk) -> None:
    slot = desk.pool._planner.of(desk.first.label)
    assert slot is not None
    desk.pool.call_off(RUN)
    with desk.pool._changed:
        desk.pool._executor.pass_on(slot)
    assert (slot.phase, desk.pool.warm()) == (SlotPhase.READY, [])
    desk.pool.leave(RUN)
    assert [rental for rental, _, _ in desk.pool.warm()] == [desk.first]


def test_tests_of_the_same_name_are_told_apart(desk: Desk) -> None:
    desk.join("two")
    desk.pool.acquire("two", "one", desk.workload, False, "p", lambda: False)
    desk.life.clock.sleep(360)
    assert set(desk.pool.books.of(RUN)[0].shares.tests) == {"one", "one (run two)"}
    assert desk.pool.books.spent(RUN, "one") == pytest.approx(desk.pool.books.spent("two", "one"), rel=0.5)


def test_another_workload_takes_a_warm_instance_over_and_only_its_server_is_started(desk: Desk) -> None:
    desk.pool.done("one", "one")
    desk.pool.leave(RUN)
    desk.join("two")
    other = command("serve --another", gpus=0)  # the machines of this scene have none
    label = desk.pool.acquire("two", "t", other, False, "p", lambda: False)
    assert label == desk.first.label
    assert desk.first.workload == other
    assert len(desk.life.provider.instances) == 1
    assert "starting command 'serve --another' in place of command 'serve'" in desk.events()


def test_a_workload_that_the_machine_does_not_fit_gets_another_instance(desk: Desk) -> None:
    desk.pool.done("one", "one")
    desk.pool.leave(RUN)
    desk.join("two")
    label = desk.pool.acquire("two", "t", command("serve", gpus=0, image="another/image"), False, "p", lambda: False)
    assert label != desk.first.label
    assert [rental for rental, _, _ in desk.pool.warm()] == [desk.first], "it goes on waiting"


def test_an_offer_that_was_not_to_be_had_is_not_waited_for(desk: Desk) -> None:
    rental = Rental(desk.life.services, desk.workload, desk.first.offer, number=7, nth=2, name="command 'serve'")
    desk.life.budgets.reserve(RUN, rental.label, 0.1, 0.0, desk.life.clock.monotonic())
    desk.pool.registry.started(rental)
    rental.begin()
    rental.not_created()
    desk.pool.leave(RUN)
    assert desk.pool.left_by(RUN) == []
    assert not desk.pool.is_of_no_use, "the other one waits"
    desk.life.clock.sleep(700)
    until(lambda: desk.pool.is_of_no_use, bool)


@pytest.mark.parametrize("late", [None, 0, 1], ids=["in time", "the first is late", "the second is late"])
def test_a_run_whose_money_is_for_one_at_a_time_uses_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int | None
) -> None:
    desk = Desk(tmp_path, Script(), Script())
    use_again = desk.provisioner.use_again

    def in_its_time(rental: Rental, *rest: Any) -> list[Attempt] | None:
        if late is not None and rental is [desk.first, second][late]:
            time.sleep(0.2)
        return use_again(rental, *rest)

    monkeypatch.setattr(desk.provisioner, "use_again", in_its_time)
    try:
        other = command("serve --another", gpus=0)
        second = desk.pool.registry[desk.pool.acquire(RUN, "two", other, False, "two", lambda: False)]
        desk.pool.leave(RUN)
        worst_usd = max(each.cost.usd_h * each.cost.remaining_life_s / 3600 for each in (desk.first, second))
        desk.join("two", budget=1.5 * worst_usd)
        desk.pool.expect("two", {"one": Expected(desk.workload), "two": Expected(other)})
        assert desk.pool.acquire("two", "one", desk.workload, False, "p", lambda: False) == desk.first.label
        desk.pool.done("one", "p")
        desk.pool.finished("two", "one", "p")
        assert desk.pool.acquire("two", "two", other, False, "p", lambda: False) == second.label
        assert len(desk.pool.registry.attempts()) == 2, "nothing was rented"
    finally:
        desk.pool.close()
