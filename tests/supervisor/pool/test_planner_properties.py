"""The planner in runs in which anything happens in any order: tests are tried again, instances lost, workers killed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import initialize
from hypothesis.stateful import invariant
from hypothesis.stateful import precondition
from hypothesis.stateful import rule
from hypothesis.stateful import run_state_machine_as_test

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.pool.placement import LINGER_S
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.planner import LeaseRequest
from pytest_vastgpu.supervisor.pool.planner import PoolPlanner
from pytest_vastgpu.supervisor.pool.planner import Slot

WORKLOADS = [Workload("command", command=name) for name in "abc"]
LONGEST = 1_000
"""More steps than any of these runs needs to come to its end."""


class Process:
    """Runs tests one after another, each in one or more tries."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.test = ""
        self.ask: LeaseRequest | None = None


class AnyRun(RuleBasedStateMachine):
    """Each rule is an event, after which the pool plans; the invariants hold after each of them."""

    @initialize(
        tests=st.lists(
            st.tuples(st.sampled_from(WORKLOADS), st.sampled_from(["sure", "maybe", "unknown"])), min_size=1, max_size=8
        ),
        limit=st.sampled_from([None, None, 1, 2, 4]),
        processes=st.integers(1, 3),
    )
    def begin(self, tests: list[tuple[Workload, str]], limit: int | None, processes: int) -> None:
        self.now = 0.0
        self.limit = limit
        self.planner = PoolPlanner(limit, lambda: self.now)
        self.planner.join("run", processes)
        self.processes = [Process(f"w{number}") for number in range(processes)]
        self.workloads = {f"t{number}": workload for number, (workload, _) in enumerate(tests)}
        self.to_run = list(self.workloads)
        self.coming: list[Slot] = []
        self.ending: list[Slot] = []
        self.rents: Counter[Workload] = Counter()
        self.may_rent = Counter(set(self.workloads.values()))
        """Rents that there are reasons for: one for each workload, another one for each that is lost, and so on."""
        self.struck: set[str] = set()
        """Tests that were said to be over, and may be tried again all the same."""
        self.sure = {f"t{number}" for number, (_, how) in enumerate(tests) if how == "sure"}
        """Tests that are sure to ask and have not asked."""
        self.failed: set[Workload] = set()
        self.unused: set[Workload] = set()
        """Those whose instance was lost before it was used."""
        known = {f"t{number}": (workload, how) for number, (workload, how) in enumerate(tests)}
        self.planner.runs["run"].expect(
            {test: Expected(None if how == "unknown" else it, how == "sure") for test, (it, how) in known.items()}
        )
        self.plan()

    # ------------------------------------------------------------------- tests

    @precondition(lambda self: self.to_run)
    @rule(data=st.data())
    def asks(self, data: st.DataObject) -> None:
        """The first try of a test, in any order of the tests."""
        if idle := [process for process in self.processes if not process.test]:
            process = data.draw(st.sampled_from(idle))
            process.test = data.draw(st.sampled_from(self.to_run))
            self.to_run.remove(process.test)
            self.ask(process)

    @precondition(lambda self: self.to_run)
    @rule(data=st.data())
    def is_skipped(self, data: st.DataObject) -> None:
        test = data.draw(st.sampled_from(self.to_run))
        self.to_run.remove(test)
        self.sure.discard(test)
        self.struck.add(test)
        self.planner.runs["run"].finished(test, "w0")
        self.plan()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def is_tried_again(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.running))
        held = [slot for slot in self.ready if slot.owner is None and self.holds(process, slot)]
        self.planner.done(process.name, process.test)
        self.plan()
        self.ask(process)
        # Where a test lacks room, one of several equal instances makes room at once: another one is left to share.
        if held and process.test not in self.struck and not any(ask.lacks_room for ask in self.planner.asks):
            self.look(process)
            assert self.holds(process, held[0]), "its instance is still there"

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def wants_one_of_its_own(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.running))
        self.ask(process, exclusive=True)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def is_over(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.running)))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def is_over_for_others_while_it_waits(self, data: st.DataObject) -> None:
        """As when a report of its crash in another process comes late."""
        test = data.draw(st.sampled_from(self.waiting)).test
        self.struck.add(test)
        self.planner.runs["run"].finished(test)
        self.plan()

    @rule(data=st.data())
    def hangs_up(self, data: st.DataObject) -> None:
        """A process dies; another one takes its place, and may try its test again."""
        process = data.draw(st.sampled_from(self.processes))
        test, ask = process.test, process.ask
        self.processes[self.processes.index(process)] = Process(f"{process.name}'")
        self.planner.done(process.name)
        if ask is not None:
            self.planner.withdraw(ask)
        if test and data.draw(st.booleans()):
            self.to_run.append(test)
        elif test:
            self.struck.add(test)
            self.planner.runs["run"].finished(test)
        self.plan()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def looks(self, data: st.DataObject) -> None:
        self.look(data.draw(st.sampled_from(self.waiting)))

    # --------------------------------------------------------------- instances

    @precondition(lambda self: self.coming)
    @rule(data=st.data())
    def arrives(self, data: st.DataObject) -> None:
        self.arrive(data.draw(st.sampled_from(self.coming)))

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), scarce=st.booleans())
    def fails(self, data: st.DataObject, scarce: bool) -> None:
        slot = data.draw(st.sampled_from(self.coming))
        self.coming.remove(slot)
        if slot in self.ending:
            self.ending.remove(slot)
            self.planner.gone(slot)
        else:
            self.may_rent[slot.workload] += 1
            self.failed.add(slot.workload)
            self.planner.failed(slot, ProvisioningFailed("no"), scarce)
        self.plan()

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), leaves=st.booleans())
    def is_lost(self, data: st.DataObject, leaves: bool) -> None:
        """Lost, at the end of its life, or too dear."""
        slot = data.draw(st.sampled_from(self.ready))
        self.may_rent[slot.workload] += 1
        if leaves:
            self.planner.leave(slot)
        else:
            if slot.owner is None and not slot.served:
                self.unused.add(slot.workload)
            self.planner.retire(slot)
            self.ending.append(slot)
        self.plan()

    @precondition(lambda self: self.ending)
    @rule(data=st.data())
    def is_gone(self, data: st.DataObject) -> None:
        self.go(data.draw(st.sampled_from(self.ending)))

    @rule(seconds=st.sampled_from([0.1, 2 * LINGER_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.plan()

    # ------------------------------------------------------------ what is true

    @invariant()
    def planning_again_changes_nothing(self) -> None:
        if hasattr(self, "planner"):
            assert self.planner.plan() == ([], [])

    @invariant()
    def no_more_are_alive_than_may_be(self) -> None:
        if hasattr(self, "planner"):
            assert self.limit is None or len(self.planner.slots) <= self.limit

    @invariant()
    def rents_have_reasons(self) -> None:
        if hasattr(self, "planner") and self.limit is None:
            assert all(self.rents[workload] <= self.may_rent[workload] for workload in WORKLOADS)

    @invariant()
    def who_waits_is_waited_for(self) -> None:
        for process in self.waiting if hasattr(self, "planner") else ():
            ask = process.ask
            assert ask is not None
            under_way = [slot for slot in self.planner.slots.values() if slot.phase.stays]
            if ask.exclusive:
                assert ask.lacks_room or ask.error or ask.slot in under_way
            else:
                ours = [slot for slot in under_way if slot.workload == ask.workload and slot.owner is None]
                assert ours or ask.lacks_room or ask.workload in self.failed

    def teardown(self) -> None:
        """Whatever has happened: when instances come and go and tests end, no test waits for ever."""
        if not hasattr(self, "planner"):
            return
        for _ in range(LONGEST):
            self.now += 2 * LINGER_S
            self.plan()
            if self.ending:
                self.go(self.ending[0])
            elif self.coming:
                self.arrive(self.coming[0])
            elif served := next((process for process in self.waiting if self.look(process)), None):
                assert served.ask is None
            elif self.running:
                self.end(self.running[0])
            elif self.to_run and (idle := [process for process in self.processes if not process.test]):
                idle[0].test = self.to_run.pop()
                self.ask(idle[0])
            else:
                break
        assert [process.test for process in self.processes if process.test] + self.to_run == [], "a test waits for ever"
        assert self.planner.slots == {}, "not everything is given back"

    # ---------------------------------------------------------------- plumbing

    @property
    def running(self) -> list[Process]:
        return [process for process in self.processes if process.test and process.ask is None]

    @property
    def waiting(self) -> list[Process]:
        return [process for process in self.processes if process.ask is not None]

    @property
    def ready(self) -> list[Slot]:
        return [slot for slot in self.planner.slots.values() if slot.phase is SlotPhase.READY]

    def slots_of(self, workload: Workload) -> list[Slot]:
        return [slot for slot in self.planner.slots.values() if slot.workload == workload and slot.owner is None]

    def holds(self, process: Process, slot: Slot) -> bool:
        return any((hold.process, hold.test) == (process.name, process.test) for hold in slot.holds)

    def plan(self) -> None:
        """What the pool does after each event, and at each pulse of a test that waits."""
        wanted = {ask.workload for ask in self.planner.asks if not ask.exclusive}
        sure = {self.workloads[test] for test in self.sure} - self.unused
        starts, ends = self.planner.plan()
        self.coming += starts
        self.ending += ends
        for slot in starts:
            self.rents[slot.workload] += 1
            twice = [other for other in self.slots_of(slot.workload) if other.phase.stays]
            assert slot.owner is not None or self.limit is not None or len(twice) == 1, "begun twice"
            assert slot.owner is not None or slot.workload in wanted | sure, "rented ahead for one that has had it"
        lacking = [ask for ask in self.planner.asks if ask.lacks_room]
        for slot in ends:
            assert not slot.holds, "ended although a test uses it"
            self.may_rent[slot.workload] += bool(lacking)  # it makes room for another one

    def ask(self, process: Process, *, exclusive: bool = False) -> None:
        workload = self.workloads[process.test]
        self.may_rent[workload] += exclusive or process.test in self.struck
        if not exclusive:
            self.sure.discard(process.test)
            self.unused.discard(workload)
        process.ask = LeaseRequest(process.name, process.test, workload, exclusive, "run")
        self.planner.ask(process.ask)
        self.plan()

    def look(self, process: Process) -> bool:
        """Whether the test has got its answer."""
        assert process.ask is not None
        try:
            slot = self.planner.answer(process.ask)
        except VastGpuError:
            self.planner.withdraw(process.ask)
            process.ask = None
            self.end(process)
            return True
        if slot is not None:
            self.planner.withdraw(process.ask)
            process.ask = None
        self.plan()
        return slot is not None

    def end(self, process: Process) -> None:
        self.planner.done(process.name, process.test)
        self.planner.runs["run"].finished(process.test, process.name)
        process.test = ""
        self.plan()

    def arrive(self, slot: Slot) -> None:
        self.coming.remove(slot)
        self.planner.arrived(slot, f"label {slot.number}")
        self.plan()

    def go(self, slot: Slot) -> None:
        self.ending.remove(slot)
        if slot in self.coming:
            self.coming.remove(slot)
        self.planner.gone(slot)
        self.plan()


@pytest.mark.parametrize("runs", [30, *[pytest.param(200, marks=pytest.mark.slow)] * 10])
def test_any_run(runs: int) -> None:
    run_state_machine_as_test(
        AnyRun, settings=settings(max_examples=runs, stateful_step_count=40, report_multiple_bugs=False)
    )
