"""Which instances to rent, to hand out and to give back. Pure: the broker acts on the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pytest_vastgpu.model import Workload

LINGER_S = 1.0
"""How long an instance stays unused before it makes room for another workload: whoever used it last may be on the way
to the next test that needs it, and renting it again would take minutes."""


class SlotPhase(Enum):
    """How far an instance of the run is."""

    COMING = "coming"
    READY = "ready"
    LEAVING = "leaving"
    """Still used by the tests that have it; no other test gets it."""
    ENDING = "ending"
    """Being given back: alive until the market says that it is gone."""

    @property
    def stays(self) -> bool:
        """Whether tests can still count on it."""
        return self in (SlotPhase.COMING, SlotPhase.READY)


@dataclass(frozen=True)
class SlotView:
    """An instance as these decisions see it: one of those that count against ``--vast-max-instances``."""

    number: int
    """In the order of renting."""
    workload: Workload
    phase: SlotPhase = SlotPhase.READY
    exclusive: bool = False
    """Whether it belongs to one test alone."""
    users: tuple[str, ...] = ()
    """Processes whose test uses it, or waits for it to be ready."""
    unused_s: float = 0.0
    """For how long nobody has used it."""


def to_hand_out(places: Sequence[SlotView], workload: Workload) -> SlotView | None:
    """The ready instance of a workload that is least busy, of equally busy ones the oldest."""
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
    """What to rent before anybody asks for it: each needed workload, then more of the busiest where there is room.

    Most-needed first. Where not all fit, those that come first in the run go first: another one would have to make room
    for them at once.

    :param certain: How many tests are sure to ask for each workload, in the order of the run.
    :param limit: How many may be alive at once; None: one of each workload.
    :param workers: How many tests run at a time.
    :param barred: Not to be rented in advance.
    :param single: Not to be rented more than once.
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
            if workload not in single and alive[workload] < min(workers, tests)
        ]
        if not busy:
            break
        busiest = max(busy, key=lambda workload: certain[workload] / alive[workload])
        alive[busiest] += 1
        starts.append(busiest)
    return starts


def to_give_back(pending: Mapping[Workload, int], unknown: int, places: Sequence[SlotView]) -> list[SlotView]:
    """Those that no test will need any more: more of a workload than tests are left that may ask for it.

    One that a test uses stays. Those that are not ready yet go first.

    :param pending: How many tests may still ask for each workload.
    :param unknown: How many tests may still ask for whatever it is.
    """
    found = [place for place in places if place.phase is SlotPhase.LEAVING and not (place.users or place.exclusive)]
    for workload in {place.workload for place in places}:
        ours = [place for place in _shared(places, workload) if place.phase.stays]
        extra = max(0, len(ours) - pending.get(workload, 0) - unknown)
        idle = [place for place in ours if place.phase is SlotPhase.COMING or not place.users]
        idle.sort(key=lambda place: (place.phase is SlotPhase.READY, -place.number))
        found += idle[:extra]
    return found


def to_make_room(places: Sequence[SlotView], pending: Mapping[Workload, int], all_wait: bool) -> SlotView | None:
    """The instance to give back so that another workload can be rented: unused, and its workload the least needed.

    One of several with the same workload goes first and at once, since whoever is on the way to it can have another.

    :param all_wait: Whether every process waits for room, so that nobody can be on the way to an unused instance.
    """
    shared = [place for place in places if place.phase.stays and not place.exclusive]
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


def hopeless(places: Sequence[SlotView], waiting: Collection[str]) -> bool:
    """Whether no room can come: every instance is used by a test that waits for room itself.

    :param waiting: Processes whose test waits for room.
    """
    used = (SlotPhase.READY, SlotPhase.LEAVING)
    return all(place.phase in used and any(user in waiting for user in place.users) for place in places)


def _shared(places: Sequence[SlotView], workload: Workload) -> list[SlotView]:
    return [place for place in places if place.workload == workload and not place.exclusive]
