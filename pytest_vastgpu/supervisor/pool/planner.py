"""Plans the pool: tracks the tests that ask and the instances there are. No threads, no locks, no side effects.

The pool reports what has happened, and carries out what :meth:`PoolPlanner.plan` decides.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import NoRoom
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.supervisor.pool import placement
from pytest_vastgpu.supervisor.pool.demand import Demands
from pytest_vastgpu.supervisor.pool.placement import SlotPhase
from pytest_vastgpu.supervisor.pool.placement import SlotView


@dataclass(eq=False)
class LeaseRequest:
    """A test that waits for an instance."""

    process: str
    """The process that runs the test."""
    test: str
    workload: Workload
    exclusive: bool
    run: str
    """The run that the test belongs to."""
    slot: Slot | None = None
    """The slot of an exclusive instance that is being rented for this request."""
    error: BaseException | None = None
    lacks_room: bool = False
    """Whether another instance must be given back before its own can be rented."""
    since: float = 0.0
    """When it began to wait, on the clock."""
    other_than: frozenset[int] = frozenset()
    """Machines that an exclusive instance must not be on."""
    alone: bool = False
    """Whether no other test may use the shared instance at the same time."""


@dataclass(frozen=True)
class Hold:
    """A test uses an instance."""

    process: str
    run: str
    test: str
    since: float
    alone: bool = False
    """Whether no other test may."""


@dataclass(eq=False)
class Slot:
    """One of the instances that may be alive at once."""

    number: int
    workload: Workload
    owner: LeaseRequest | None
    """The request that it is exclusive to; None: any test may use it."""
    returned_before: int
    """How many instances had been given back when renting this one began."""
    unused_since: float
    cancel: CancelToken = field(default_factory=CancelToken)
    phase: SlotPhase = SlotPhase.COMING
    run: str = ""
    """The run that pays for it, or that it is rented for."""
    label: str = ""
    """The rental's label, from its first *ready* on."""
    warm_s: float = 0.0
    """Seconds that it stays unused before it is given back. Where it is warm, money is set aside for that time."""
    holds: list[Hold] = field(default_factory=list)
    served: set[tuple[str, str]] = field(default_factory=set)
    """Process and test of each use so far."""
    ready_for: list[LeaseRequest] = field(default_factory=list)
    """The requests that waited when it was last known to be ready."""


_Shared = tuple[str, Workload]
"""What a run needs that its tests share."""


@dataclass
class _Failure:
    error: BaseException
    told: str = ""
    """The test that got the full error."""


def _key(ask: LeaseRequest) -> _Shared | LeaseRequest:
    return ask if ask.exclusive else (ask.run, ask.workload)


class PoolPlanner:
    """The instances that there are, the runs that need some, and the tests that wait for one.

    :param limit: Most instances alive at once; None: one for each workload, and all exclusive ones.
    :param clock: Seconds that only go forward.
    """

    def __init__(self, limit: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.runs = Demands()
        self._warm_s: dict[str, float] = {}
        """Seconds that what each run leaves may wait unused for the next one, also after its end."""
        self.asks: list[LeaseRequest] = []
        self.slots: dict[int, Slot] = {}
        self._limit = limit
        self._clock = clock
        self._used: list[Use] = []
        self._begun = 0
        self._returned = 0
        self._failures: dict[_Shared, _Failure] = {}
        self._refusals: dict[_Shared | LeaseRequest, tuple[int, BaseException]] = {}
        self._single: set[Workload] = set()
        self._unused: set[Workload] = set()
        """Workloads whose instance has reached its end before a test used it, and that no test has asked for since."""
        self._scarce = False
        """Whether renting has failed for lack of room. From then on nothing is rented in advance while a test waits."""

    # -------------------------------------------------------------------- runs

    def join(self, run: str, workers: int = 1, warm_s: float = 0.0) -> None:
        """A run begins. What was not to be had before it is tried again.

        :param workers: How many of its tests run at a time.
        :param warm_s: Seconds that an instance which it has had stays unused before it is given back.
        """
        self.runs.join(run, workers)
        self._warm_s[run] = warm_s
        for known in (self._refusals, self._single, self._unused):
            known.clear()
        self._scarce = False

    def call_off(self, run: str) -> None:
        """A run needs nothing any more. Its tests that have an instance may still use it."""
        self.runs.drop(run)

    def over(self, run: str) -> None:
        """A run is over, and its tests with it."""
        self.call_off(run)
        for slot in self.slots.values():
            self._let_go(slot, [hold for hold in slot.holds if hold.run == run])

    # ------------------------------------------------------------------- tests

    def ask(self, ask: LeaseRequest) -> None:
        """A test begins to wait for an instance."""
        self.asks.append(ask)
        if not ask.exclusive:
            self._unused.discard(ask.workload)
            self.runs[ask.run].asks(ask.process, ask.test, ask.workload)

    def withdraw(self, ask: LeaseRequest) -> None:
        """A test has got its instance or error, or has stopped waiting."""
        self.asks.remove(ask)
        self._refusals.pop(ask, None)
        if not ask.exclusive:
            self.runs[ask.run].answered(ask.process, ask.test, ask.workload)

    def answer(self, ask: LeaseRequest) -> Slot | None:
        """The instance for a waiting test, which uses it from now on; None where there is none yet.

        :raises VastGpuError: if the test gets none.
        """
        if ask.error is not None:
            raise ask.error
        if not ask.exclusive and (failure := self._failures.get((ask.run, ask.workload))):
            raise self._shared(failure, ask.test)
        slot = ask.slot
        if not ask.exclusive:
            slot = self._to_hand_out(ask)
        if slot is not None and slot.phase is SlotPhase.READY:
            slot.served.add((ask.process, ask.test))
            slot.holds.append(Hold(ask.process, ask.run, ask.test, self._clock(), ask.alone))
            return slot
        if ask.lacks_room and self._hopeless:
            raise self._no_room(ask)
        return None

    def done(self, process: str, test: str | None = None) -> None:
        """A test no longer uses its instances; it may be tried again.

        :param test: None: all tests of the process.
        """
        for slot in self.slots.values():
            self._let_go(slot, [hold for hold in slot.holds if hold.process == process and test in (None, hold.test)])

    def uses(self) -> list[Use]:
        """Which test has used which instance, and from when to when. A host is used by the run, and by no test."""
        now = [
            Use(hold.test, slot.label, hold.since, math.inf, hold.run)
            for slot in self.slots.values()
            for hold in slot.holds
            if slot.workload.adapter != HOST
        ]
        return self._used + now

    def ended_uses(self, after: int) -> list[Use]:
        """Those of them that are over, without that many that ended first."""
        return self._used[after:]

    # --------------------------------------------------------------- instances

    def plan(self) -> tuple[list[Slot], list[Slot]]:
        """The slots to rent and to give back now. The planner takes both as begun.

        Waiting tests come first, in the order in which they asked, then what later tests need.
        """
        ends = [self._end(place) for place in self._useless()]
        starts: list[Slot] = []
        lacking: set[_Shared | LeaseRequest] = set()
        for ask in self._waiting:
            key = _key(ask)
            ask.lacks_room = not self._under_way(ask) and (self._full or key in self._refused())
            if ask.lacks_room:
                lacking.add(key)
            elif not self._under_way(ask):
                starts.append(self._begin(ask.workload, ask if ask.exclusive else None))
        if lacking:
            all_wait = len({ask.process for ask in self._waiting if ask.lacks_room}) >= self.runs.workers
            while sum(slot.phase is SlotPhase.ENDING for slot in self.slots.values()) < len(lacking):
                place = placement.to_make_room(self._that_help(lacking), self._pending, all_wait)
                if place is None:
                    break
                ends.append(self._end(place))
        elif not (self._scarce and self._waiting):
            starts += [self._begin(workload, None) for workload in self._ahead()]
        return starts, ends

    def arrived(self, slot: Slot, label: str) -> None:
        """The instance of a slot is ready."""
        slot.label = label
        slot.warm_s = self.warm_s(slot.run)
        slot.unused_since = self._clock()
        slot.ready_for = self._waiting_for(slot)
        if slot.phase in (SlotPhase.COMING, SlotPhase.CHECKING):
            slot.phase = SlotPhase.READY

    def warm_s(self, run: str) -> float:
        """Seconds that what a run leaves may wait unused for the next one."""
        return self._warm_s.get(run, 0.0)

    def waits(self, slot: Slot, warm_s: float) -> None:
        """The run that paid for a shared instance is over: it waits for another one, unused from now on.

        :param warm_s: For how many seconds.
        """
        slot.warm_s = warm_s
        slot.unused_since = self._clock()
        slot.phase = SlotPhase.WARM

    def wanted(self) -> list[Slot]:
        """The warm instances that a run needs, to look at before a test gets them."""
        return [slot for slot in self.slots.values() if slot.phase is SlotPhase.WARM and self._run_for(slot.workload)]

    def to_take_over(self, may: Callable[[Slot, Workload], bool]) -> list[Slot]:
        """The warm instances that shall run another workload, which a run needs and no instance has. They are taken.

        :param may: Whether an instance may run a workload.
        """
        taken: list[Slot] = []
        if all(slot.phase is not SlotPhase.WARM for slot in self.slots.values()):
            return taken  # this is asked again and again while tests wait
        asked = [ask.workload for ask in self._waiting if not ask.exclusive]
        for workload in dict.fromkeys([*asked, *(each for each, tests in self.runs.certain.items() if tests)]):
            if not self._run_for(workload) or self._shared_by(workload):
                continue
            places = placement.to_take_over(self._places(), self._pending)
            slot = next((slot for place in places if may(slot := self.slots[place.number], workload)), None)
            if slot is not None:
                slot.workload = workload
                taken.append(slot)
        return taken

    def checks(self, slot: Slot) -> None:
        """A warm instance is being looked at, until :meth:`arrived`."""
        slot.phase = SlotPhase.CHECKING
        slot.run = self._run_for(slot.workload)

    def rents_anew(self, slot: Slot) -> None:
        """The instance that was looked at is of no use, and given back: another one is rented in its place."""
        slot.label = ""
        if slot.phase is SlotPhase.CHECKING:
            slot.phase = SlotPhase.COMING

    def cannot_pay(self, slot: Slot, payer: str, serves: Workload, error: BaseException, scarce: bool) -> None:
        """The run that a warm instance was wanted for cannot pay for it: it goes on waiting for another one.

        :param payer: The run that goes on paying.
        :param serves: The instance's own workload.
        :param scarce: Whether that run may be able to once another instance of its own has been given back.
        """
        if scarce:
            self._refusals[slot.run, slot.workload] = (self._returned, error)
        else:
            self._failures[slot.run, slot.workload] = _Failure(error)
        slot.run, slot.workload, slot.phase = payer, serves, SlotPhase.WARM

    def about_to_be_shared(self) -> list[Slot]:
        """The ready instances that a waiting test may get, and that are worth a look before.

        One that was found ready while a test waited is not looked at again until that test has got its answer: what
        other tests do with the instance must not keep it waiting for ever. One that a test has alone is left alone.
        """
        return [
            slot
            for slot in self.slots.values()
            if slot.phase is SlotPhase.READY
            if self._waiting_for(slot) and not any(hold.alone for hold in slot.holds)
            if not any(ask in self.asks for ask in slot.ready_for)
        ]

    def doubt(self, slot: Slot) -> None:
        """The server of a shared, ready instance may have ended: until :meth:`arrived`, the instance comes again."""
        slot.phase = SlotPhase.COMING

    def failed(self, slot: Slot, error: BaseException, scarce: bool) -> None:
        """Renting for a slot has failed.

        :param scarce: Whether it may succeed once another instance has been given back.
        """
        del self.slots[slot.number]
        ask = slot.owner
        if ask is None and self._shared_by(slot.workload):
            self._single.add(slot.workload)
        elif scarce and (self.slots or self.has_given_back_since(slot)):
            self._refusals[ask or (slot.run, slot.workload)] = (slot.returned_before, error)
            self._scarce = True
            if ask is not None:
                ask.slot = None
            return
        elif ask is not None:
            ask.error = error
        else:
            self._failures[slot.run, slot.workload] = _Failure(error)
        self._returned += 1

    def has_given_back_since(self, slot: Slot) -> bool:
        """Whether an instance was given back since renting this one began."""
        return slot.returned_before != self._returned

    def gone(self, slot: Slot) -> None:
        """The instance of a slot has been given back."""
        self._let_go(slot, list(slot.holds))
        del self.slots[slot.number]
        self._returned += 1

    def of(self, label: str) -> Slot | None:
        """The slot of an instance that has been ready; None where the pool already gives it back."""
        ours = (slot for slot in self.slots.values() if slot.label == label)
        return next((slot for slot in ours if slot.phase is not SlotPhase.ENDING), None)

    def retire(self, slot: Slot) -> None:
        """Let no test get this instance any more, and take it as given back, even if a test uses it.

        Tests to come get another one in advance, unless no test has used this one: then the next test that asks does.
        """
        if slot.owner is None and not slot.served:
            self._unused.add(slot.workload)
        self.leave(slot)
        slot.phase = SlotPhase.ENDING

    def leave(self, slot: Slot) -> None:
        """Let no other test get this instance. A waiting request that it is exclusive to gets another one."""
        slot.phase = SlotPhase.LEAVING
        if slot.owner in self.asks and slot.owner is not None:
            slot.owner.slot = None
            slot.owner = None

    # ---------------------------------------------------------------- plumbing

    def _waiting_for(self, slot: Slot) -> list[LeaseRequest]:
        """The requests that a shared instance would satisfy; none for one that is exclusive."""
        if slot.owner is not None:
            return []
        return [ask for ask in self._waiting if not ask.exclusive and ask.workload == slot.workload]

    def _let_go(self, slot: Slot, holds: Iterable[Hold]) -> None:
        for hold in holds:
            slot.holds.remove(hold)
            slot.unused_since = self._clock()
            if slot.workload.adapter != HOST:
                self._used.append(Use(hold.test, slot.label, hold.since, slot.unused_since, hold.run))

    def _to_hand_out(self, ask: LeaseRequest) -> Slot | None:
        """The shared instance for a request: the one that an earlier try of the test had, if it is still there.

        None is handed out before one that a test waits for to have it alone: it would never be unused.
        """
        earlier = self.asks[: self.asks.index(ask)]
        if any(each.alone and each.workload == ask.workload and each.run in self.runs for each in earlier):
            return None
        places = [place for place in self._places() if self._is_free(self.slots[place.number], ask)]
        known = [place for place in places if (ask.process, ask.test) in self.slots[place.number].served]
        place = placement.to_hand_out(known, ask.workload) or placement.to_hand_out(places, ask.workload)
        return self.slots[place.number] if place else None

    @property
    def _hopeless(self) -> bool:
        """Whether no test that waits for room will ever get any."""
        waiting = {ask.process for ask in self.asks if ask.lacks_room or self._waits_for_others(ask)}
        places = [
            replace(place, users=tuple(hold.process for hold in self.slots[place.number].holds))
            for place in self._places()
        ]
        return placement.hopeless(places, waiting)

    def _waits_for_others(self, ask: LeaseRequest) -> bool:
        """Whether a test waits until others are done with the shared instance that it needs."""
        ready = any(slot.phase is SlotPhase.READY for slot in self._shared_by(ask.workload))
        return ready and not ask.exclusive and self._to_hand_out(ask) is None

    @staticmethod
    def _is_free(slot: Slot, ask: LeaseRequest) -> bool:
        """Whether what other tests do with an instance lets a request have it, too."""
        return not any(
            (ask.alone or hold.alone) and (hold.process, hold.test) != (ask.process, ask.test) for hold in slot.holds
        )

    @property
    def _pending(self) -> Counter[Workload]:
        """How many tests may still ask for each workload. A test that waits counts, whatever else was told of it."""
        return self.runs.pending | Counter(ask.workload for ask in self._waiting if not ask.exclusive)

    @property
    def _waiting(self) -> list[LeaseRequest]:
        """The tests that wait. One of a run that is over waits no more, though it may not have learnt it yet."""
        return [ask for ask in self.asks if ask.run in self.runs]

    def _run_for(self, workload: Workload) -> str:
        """The run that needs a workload: the first that waits for it, or else the first that may ask for it.

        Empty if there is none. A run in which renting it has failed gets an error instead, or waits for room.
        """
        waiting = [ask.run for ask in self._waiting if ask.workload == workload and not ask.exclusive]
        barred = self._failures.keys() | self._refused()
        return next((run for run in [*waiting, *self.runs.that_need(workload)] if (run, workload) not in barred), "")

    @property
    def _full(self) -> bool:
        return self._limit is not None and len(self.slots) >= self._limit

    def _places(self) -> list[SlotView]:
        return [self._place(slot) for slot in self.slots.values()]

    def _place(self, slot: Slot) -> SlotView:
        users = [hold.process for hold in slot.holds]
        if slot.owner is not None and slot.owner in self._waiting:
            users.append(slot.owner.process)
        elif slot.owner is None and slot.phase.stays:
            users += [ask.process for ask in self._waiting_for(slot)]
        unused_s = 0.0 if users else self._clock() - slot.unused_since
        held = bool(slot.holds)
        exclusive, stays_s = slot.owner is not None, slot.warm_s
        return SlotView(slot.number, slot.workload, slot.phase, exclusive, tuple(users), held, unused_s, stays_s)

    def _useless(self) -> list[SlotView]:
        places = self._places()
        own = [place for place in places if place.exclusive and not place.users and place.phase is not SlotPhase.ENDING]
        return own + placement.to_give_back(self._pending, self.runs.unknown, places)

    def _shared_by(self, workload: Workload) -> list[Slot]:
        """The shared instances of a workload that are there, or on their way."""
        slots = self.slots.values()
        return [slot for slot in slots if slot.workload == workload and slot.owner is None and slot.phase.stays]

    def _under_way(self, ask: LeaseRequest) -> bool:
        if ask.exclusive:
            return ask.slot is not None or ask.error is not None
        if (ask.run, ask.workload) in self._failures:
            return True
        refused = (ask.run, ask.workload) in self._refused()  # it cannot pay for a warm one
        return any(not (refused and slot.phase is SlotPhase.WARM) for slot in self._shared_by(ask.workload))

    def _ahead(self) -> list[Workload]:
        certain = {
            workload: tests
            for workload, tests in self.runs.certain.items()
            if any((run, workload) not in self._failures for run in self.runs.that_need(workload))
        }
        barred = {key[1] for key in self._refused() if not isinstance(key, LeaseRequest)} | self._unused
        return placement.to_start(certain, self._places(), self._limit, self.runs.workers, barred, self._single)

    def _refused(self) -> set[_Shared | LeaseRequest]:
        """What there was no room for, where nothing has been given back since."""
        return {key for key, (returned, _) in self._refusals.items() if returned == self._returned}

    def _that_help(self, lacking: Iterable[_Shared | LeaseRequest]) -> list[SlotView]:
        """The instances that make room: any of them, or those of runs whose budget alone lacks what they hold."""
        refused = self._refused()
        runs: set[str] = set()
        for key in lacking:
            if key not in refused or not isinstance(self._refusals[key][1], BudgetSpent):
                return self._places()
            runs.add(key.run if isinstance(key, LeaseRequest) else key[0])
        return [place for place in self._places() if self.slots[place.number].run in runs]

    def _begin(self, workload: Workload, owner: LeaseRequest | None) -> Slot:
        self._begun += 1
        slot = self.slots[self._begun] = Slot(self._begun, workload, owner, self._returned, self._clock())
        slot.run = owner.run if owner is not None else self._run_for(workload)
        self._refusals.pop(owner or (slot.run, workload), None)
        if owner is not None:
            owner.slot = slot
        return slot

    def _end(self, place: SlotView) -> Slot:
        slot = self.slots[place.number]
        slot.phase = SlotPhase.ENDING
        return slot

    def _no_room(self, ask: LeaseRequest) -> BaseException:
        refusal = self._refusals.get(_key(ask))
        if refusal is not None:
            return refusal[1]
        held = sum(place.users == (ask.process,) for place in self._places())
        if held == len(self.slots):
            have = "the only instance" if held == 1 else f"all {held} instances"
            return NoRoom(
                f"this test holds {have} that --vast-max-instances {self._limit} allows at once, and asks for one "
                "more: raise it, or give one back before"
            )
        return NoRoom(
            f"every instance that --vast-max-instances {self._limit} allows at once is held by a test that waits for "
            "one more itself: raise it, or have fewer tests run at a time"
        )

    def _shared(self, failure: _Failure, test: str) -> BaseException:
        """The error for a test: the first test gets it in full, in each of its tries; the others get one line."""
        failure.told = failure.told or test
        if failure.told == test or not isinstance(failure.error, VastGpuError):
            return failure.error
        first = str(failure.error).splitlines()[0]
        text = f"not rented again in this run: {first} (the whole story: {failure.told})"
        attempts = failure.error.attempts if isinstance(failure.error, ProvisioningFailed) else ()
        return ProvisioningFailed(text, attempts)
