"""Computes the reputation of machines and operators from the evidence. Pure.

How blame works, and the reasons for these numbers:

- A machine that failed by its own fault (``infra_fatal``) is not rented for 1 hour, then 6 hours, 1 day, 7 days. The
  first step is as long as faults last that end by themselves (a reboot, a full disk that is emptied). The last one is
  the time after which operators have usually repaired or withdrawn a machine. Each step is at least four times the
  one before, as in exponential backoff, so that a bad machine costs a few attempts in all and not one a day.
- A failure while the ban is in force is the same incident (other workers had already started): the step stays.
- A machine that was lost in use (``runtime_lost``) did work: four such losses weigh as much as one failure.
- A time-out proves nothing (``warmup``, ``unknown``): it lowers the machine's record a little, but never bans it.
- A success ends the ban and halves the weight of the machine's failures: the machine works, but one success does not
  outweigh many failures. Without a further failure the failures are forgotten after 30 days.
- An operator is banned only if three of its machines are banned and these are at least half of its known machines.

This module makes one ban of all that is known of a machine, and one of all that is known of an operator: a person's
word decides before the record, and machines of an operator on the allow-list earn no bans.
:mod:`pytest_vastgpu.selection.bans` says which of these two bans is in force.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import HostRecord
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import State
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override

BAN_STEPS_S = (HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S)
"""How long a machine is not rented after its first, second … failure."""
WEIGHT = {
    FailureClass.INFRA_FATAL: 1.0,
    FailureClass.RUNTIME_LOST: 0.25,
    FailureClass.UNKNOWN: 0.1,
    FailureClass.WARMUP: 0.1,
}
"""How much an outcome counts as a failure of the machine; other outcomes do not count."""
BLAMED = frozenset({FailureClass.INFRA_FATAL, FailureClass.RUNTIME_LOST})
"""Outcomes that are the machine's fault and can lead to a ban."""
FORGIVEN_S = 30 * DAY_S
"""After this time without a failure the next one counts as the first."""
HALF_LIFE_S = 14 * DAY_S
"""After this time a failure counts half as much in the record."""
INCOMPATIBLE_S = 30 * DAY_S
"""How long an incompatible pair is remembered: drivers get updated."""
KIND_MACHINES = 2
"""Number of machines of a GPU kind that must be unable to run a workload before the whole kind counts as unable."""
HOST_MACHINES = 3
"""Number of banned machines of an operator before the operator is banned."""

IMAGE_KEPT_S = 7 * DAY_S
"""How long a machine is expected to keep an image that it has pulled: a guess, since hosts clean up as they like."""

_NO_BAN = (0.0, "")
_UNTIL_REACHED = (State.CREATED, State.BOOTING)
_UNTIL_READY = (State.CREATED, State.BOOTING, State.REACHABLE, State.CHECKED, State.WARMING)


def reputation(
    evidence: Iterable[Outcome], machines: Mapping[int, Override], hosts: Mapping[int, Override], now: float
) -> Reputation:
    """The reputation of all machines and operators at one moment.

    :param evidence: The recorded outcomes, in any order.
    :param machines: People's entries for machines, by id.
    :param hosts: People's entries for operators, by id.
    :param now: Epoch seconds.
    """
    by_machine: dict[int, list[Outcome]] = defaultdict(list)
    for item in evidence:
        by_machine[item.machine_id].append(item)
    records: dict[int, MachineRecord] = {}
    recent: list[Outcome] = []
    for machine_id in sorted(by_machine.keys() | machines.keys()):
        items = sorted(by_machine.get(machine_id, ()), key=lambda item: (item.time, item.id))
        host_id = next((item.host_id for item in reversed(items) if item.host_id), 0)
        trusted = hosts.get(host_id, Override()).allowed
        records[machine_id] = _machine(machine_id, host_id, items, machines.get(machine_id, Override()), trusted, now)
        recent += _compatibility(items, now)
    return Reputation(records, _hosts(records, hosts, now), _incompatible_kinds(recent))


def _machine(
    machine_id: int, host_id: int, items: Sequence[Outcome], entry: Override, trusted: bool, now: float
) -> MachineRecord:
    good = [item for item in items if item.outcome is FailureClass.READY]
    bad = [item for item in items if item.outcome in BLAMED]
    until, why = _ban(entry, _NO_BAN if trusted else _earned_ban(items, now), now)
    return MachineRecord(
        machine_id=machine_id,
        host_id=host_id,
        successes=float(len(good)),
        infra_failures=_failures(items, now),
        last_reason=bad[-1].reason if bad else "",
        banned_until=until,
        ban_reason=why,
        allowed=entry.allowed,
        ready_s=_ready_s(good),
        boot_s=_boot_s(items, now),
        incompatible=frozenset(
            item.workload for item in _compatibility(items, now) if item.outcome is FailureClass.INCOMPATIBLE
        ),
    )


def _failures(items: Iterable[Outcome], now: float) -> float:
    """Sum of the failures, each by its weight and age. A clock that was ahead does not make a failure count more."""
    return math.fsum(
        WEIGHT[item.outcome] * 0.5 ** (max(0.0, now - item.time) / HALF_LIFE_S)
        for item in items
        if item.outcome in WEIGHT
    )


def _ban(entry: Override, earned: tuple[float, str], now: float) -> tuple[float, str]:
    """Until when, and why, one machine or one operator is banned; (0, "") where it is not.

    What a person has said decides before the record, and the allow-list before a ban by hand.

    :param earned: The ban that the record asks for.
    """
    if entry.allowed:
        return _NO_BAN
    if entry.ban is not None and entry.ban.until > now:
        return entry.ban.until, entry.ban.reason or "banned by hand"
    return earned


def _earned_ban(items: Sequence[Outcome], now: float) -> tuple[float, str]:
    """End and reason of the ban that the machine's own record gives; (0, "") if there is none.

    :param items: In the order of time.
    """
    held = 0.0
    until = 0.0
    why = ""
    last = -math.inf
    for item in items:
        if item.outcome is FailureClass.READY:
            held /= 2
            until = 0.0
        elif item.outcome in BLAMED and item.time >= until:
            before = held if item.time - last <= FORGIVEN_S else 0.0
            held = before + WEIGHT[item.outcome]
            last = item.time
            if int(held) > int(before):
                until = item.time + BAN_STEPS_S[min(int(held), len(BAN_STEPS_S)) - 1]
                why = item.reason or item.outcome.value
    return (until, why) if until > now else _NO_BAN


def _ready_s(good: Sequence[Outcome]) -> float:
    """Median seconds from create to ready; 0 if none were measured."""
    times = [math.fsum(item.seconds.get(state.value, 0.0) for state in _UNTIL_READY) for item in good]
    return statistics.median(measured) if (measured := [time for time in times if time > 0]) else 0.0


def _boot_s(items: Iterable[Outcome], now: float) -> dict[str, float]:
    """Seconds of the newest boot with each image that the machine has probably kept.

    :param items: Outcomes of one machine, in the order of time.
    """
    return {
        item.image: math.fsum(item.seconds.get(state.value, 0.0) for state in _UNTIL_REACHED)
        for item in items
        if item.image and State.REACHABLE.value in item.seconds and now - item.time < IMAGE_KEPT_S
    }


def _compatibility(items: Iterable[Outcome], now: float) -> list[Outcome]:
    """The newest outcome for each workload on one machine, success or ``incompatible``, that has not expired.

    :param items: Outcomes of one machine, in the order of time.
    """
    newest: dict[str, Outcome] = {}
    for item in items:
        if item.workload and item.outcome in (FailureClass.INCOMPATIBLE, FailureClass.READY):
            newest[item.workload] = item
    return [item for item in newest.values() if now - item.time < INCOMPATIBLE_S]


def _incompatible_kinds(recent: Iterable[Outcome]) -> frozenset[tuple[str, str]]:
    """(GPU kind, workload) pairs that failed on several machines and worked on none."""
    machines: dict[tuple[str, str], set[int]] = defaultdict(set)
    works = set()
    for item in recent:
        pair = (item.gpu_name, item.workload)
        if item.outcome is FailureClass.READY:
            works.add(pair)
        elif item.gpu_name:
            machines[pair].add(item.machine_id)
    return frozenset(pair for pair, ids in machines.items() if len(ids) >= KIND_MACHINES and pair not in works)


def _hosts(records: Mapping[int, MachineRecord], entries: Mapping[int, Override], now: float) -> dict[int, HostRecord]:
    by_host: dict[int, list[MachineRecord]] = defaultdict(list)
    for record in records.values():
        if record.host_id:
            by_host[record.host_id].append(record)
    found = {}
    for host_id in sorted(by_host.keys() | entries.keys()):
        owned = by_host.get(host_id, [])
        entry = entries.get(host_id, Override())
        until, why = _ban(entry, _ban_for_machines(owned, now), now)
        found[host_id] = HostRecord(
            host_id=host_id,
            successes=math.fsum(record.successes for record in owned),
            infra_failures=math.fsum(record.infra_failures for record in owned),
            banned_until=until,
            ban_reason=why,
            allowed=entry.allowed,
        )
    return found


def _ban_for_machines(owned: Sequence[MachineRecord], now: float) -> tuple[float, str]:
    """Until when, and why, the bans of its machines ban an operator; (0, "") where that is not so."""
    bad = sorted((record.banned_until for record in owned if record.banned_until > now), reverse=True)
    if len(bad) < HOST_MACHINES or 2 * len(bad) < len(owned):
        return _NO_BAN
    # It holds as long as that many of its machines are banned.
    return bad[HOST_MACHINES - 1], f"{len(bad)} of its {len(owned)} known machines are banned"
