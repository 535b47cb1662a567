"""Decides which instances to rent, to hand out and to give back. Pure: the pool acts on the decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pytest_vastgpu.model import Workload

LINGER_S = 1.0
"""How long an instance stays unused before it makes room for another workload. The process that used it last may be
about to start the next test that needs it, and renting it again would take minutes."""


class SlotPhase(Enum):
    """Phase of an instance in the pool."""

    COMING = "coming"
    READY = "ready"
    WARM = "warm"
    """The run that paid for it is over. It is looked at before a test of another run gets it."""
    CHECKING = "checking"
    """It was warm, and is being looked at, or its server started again."""
    LEAVING = "leaving"
    """Tests that hold it go on using it; no other test gets it."""
    ENDING = "ending"
    """The pool gives it back; it counts as alive until the market reports it gone."""

    @property
    def stays(self) -> bool:
        """Whether new tests can still get it."""
        return self not in (SlotPhase.LEAVING, SlotPhase.ENDING)


@dataclass(frozen=True)
class SlotView:
    """An instance as these decisions see it. Each one counts against ``--vast-max-instances``."""

    number: int
    """Its number in the order of renting."""
    workload: Workload
    phase: SlotPhase = SlotPhase.READY
    exclusive: bool = False
    """Whether it belongs to one test alone."""
    users: tuple[str, ...] = ()
    """Processes whose test uses it, or waits for it."""
    held: bool = False
    """Whether a test uses it."""
    unused_s: float = 0.0
    """Seconds since its last use."""
    warm_s: float = 0.0
    """Seconds that it stays unused before it is given back, if it has been ready."""


def to_hand_out(places: Sequence[SlotView], workload: Workload) -> SlotView | None:
    """The ready instance of a workload with the fewest users; of several, the oldest."""
    ready = [place for place in _shared(places, workload) if place.phase is SlotPhase.READY]
    return min(ready, key=lambda place: (len(place.users), place.number), default=None)


def to_start(
    certain: Mapping[Workload, int],
    places: Sequence[SlotView],
    limit: int | None,
    workers: int,
    barred: Collection[Workload] = (),
    single: Collection[Workload] = (),
) -> list[Workload]:
    """What to rent before a test asks for it: each needed workload once, then more of the busiest where there is room.

    The most needed workload comes first. Where not all fit, the run's order decides: any other instance would soon have
    to make room for those that come first in the run.

    :param certain: How many tests are sure to ask for each workload, in the order of the run.
    :param limit: Most instances alive at once; None: one of each workload.
    :param workers: How many tests run at a time.
    :param barred: Workloads not to rent in advance.
    :param single: Workloads not to rent more than once.
    """
    alive = Counter(place.workload for place in places if not place.exclusive and place.phase.stays)
    missing = [workload for workload, tests in certain.items() if tests and not alive[workload]]
    starts = [workload for workload in missing if workload not in barred]
    room = len(starts) if limit is None else max(0, limit - len(places))
    if len(starts) <= room:
        starts.sort(key=lambda workload: -certain[workload])
    starts = starts[:room]
    if limit is None or len(starts) < len(missing):
        return starts
    alive.update(starts)
    for _ in range(room - len(starts)):
        busy = [
            workload
            for workload, tests in certain.items()
            if workload not in barred and workload not in single and alive[workload] < min(workers, tests)
        ]
        if not busy:
            break
        busiest = max(busy, key=lambda workload: certain[workload] / alive[workload])
        alive[busiest] += 1
        starts.append(busiest)
    return starts


def to_give_back(pending: Mapping[Workload, int], unknown: int, places: Sequence[SlotView]) -> list[SlotView]:
    """The instances to give back: those of a workload beyond the number of tests that may still ask for it.

    An instance that a test uses stays. Instances that are not ready yet go first.

    :param pending: How many tests may still ask for each workload.
    :param unknown: How many tests may still ask for a workload that is not known yet.
    """
    found = [place for place in places if place.phase is SlotPhase.LEAVING and not (place.users or place.exclusive)]
    for workload in {place.workload for place in places}:
        ours = [place for place in _shared(places, workload) if place.phase.stays]
        extra = max(0, len(ours) - pending.get(workload, 0) - unknown)
        idle = [place for place in ours if not place.held and (place.phase is SlotPhase.COMING or not place.users)]
        idle.sort(key=lambda place: (place.phase is not SlotPhase.COMING, -place.number))
        found += [place for place in idle[:extra] if place.phase is SlotPhase.COMING or place.unused_s >= place.warm_s]
    return found


def to_make_room(places: Sequence[SlotView], pending: Mapping[Workload, int], all_wait: bool) -> SlotView | None:
    """The instance to give back so that another workload can be rented: unused, and of the least needed workload.

    One of several instances of a workload goes first and at once, since a test about to ask for it can have another.

    :param all_wait: Whether every process waits for room, so that none can be about to ask for an unused instance.
    """
    shared = [
        place for place in places if place.phase.stays and place.phase is not SlotPhase.CHECKING and not place.exclusive
    ]
    alive = Counter(place.workload for place in shared)
    unused = [
        place
        for place in shared
        if not place.users and (all_wait or alive[place.workload] > 1 or place.unused_s >= LINGER_S)
    ]
    return min(
        unused,
        key=lambda place: (alive[place.workload] == 1, pending.get(place.workload, 0), place.number),
        default=None,
    )


def to_take_over(places: Sequence[SlotView], pending: Mapping[Workload, int]) -> list[SlotView]:
    """The instances whose server may make way for that of another workload: warm, and no test needs theirs."""
    warm = [place for place in places if place.phase is SlotPhase.WARM and not place.exclusive]
    return [place for place in warm if not place.users and not pending.get(place.workload, 0)]


def hopeless(places: Sequence[SlotView], waiting: Collection[str]) -> bool:
    """Whether there can never be room: each instance is used by a test that waits for room itself.

    :param waiting: Processes whose test waits for room.
    """
    used = (SlotPhase.READY, SlotPhase.LEAVING)
    return all(place.phase in used and any(user in waiting for user in place.users) for place in places)


def _shared(places: Sequence[SlotView], workload: Workload) -> list[SlotView]:
    return [place for place in places if place.workload == workload and not place.exclusive]
