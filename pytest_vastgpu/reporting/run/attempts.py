"""Reads what the events say of one attempt. See :mod:`.reader`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_vastgpu.model import State
from pytest_vastgpu.reporting.run.json_values import amount
from pytest_vastgpu.reporting.run.json_values import line
from pytest_vastgpu.reporting.run.json_values import objects
from pytest_vastgpu.reporting.run.json_values import sub_object
from pytest_vastgpu.reporting.run.json_values import texts
from pytest_vastgpu.reporting.run.json_values import whole
from pytest_vastgpu.reporting.run.report import Considered
from pytest_vastgpu.reporting.run.report import GpuMemorySample
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import Note
from pytest_vastgpu.reporting.run.report import OfferReport
from pytest_vastgpu.reporting.run.report import Phase
from pytest_vastgpu.reporting.run.report import Used
from pytest_vastgpu.reporting.run.report import VerdictReport

_MOST_NOTES = 200
_MOST_SAMPLES = 1000
_STATES = frozenset(State)
_OVER = frozenset({State.GONE.value, State.KEPT.value})
"""States that last: what an instance is in them is no step."""


def verdict_of(value: object) -> VerdictReport | None:
    """A verdict; None where it is none."""
    found = sub_object(value)
    name = line(found.get("class"))
    if not name:
        return None
    return VerdictReport(name, line(found.get("reason")), line(found.get("evidence")), line(found.get("remedy")))


def considered_of(row: Mapping[str, object]) -> Considered:
    """The offers that were considered."""
    return Considered(
        tuple(map(_offer, objects(row.get("admitted")))),
        tuple(map(_offer, objects(row.get("rejected")))),
        whole(row.get("more_admitted")),
        whole(row.get("more_rejected")),
    )


def _offer(row: Mapping[str, object]) -> OfferReport:
    return OfferReport(
        whole(row.get("machine")),
        line(row.get("gpu"), 100),
        amount(row.get("usd_h")),
        line(row.get("where"), 100),
        amount(row.get("chance")),
        amount(row.get("expected_s")),
        amount(row.get("expected_usd")),
        texts(row.get("why"), 100),
    )


@dataclass
class AttemptEvents:
    """What the events have said of one attempt so far.

    :param run: The run whose report this is: the tests of others have its id behind them.
    """

    run: str
    considered: Considered = field(default_factory=Considered)
    _row: dict[str, object] = field(default_factory=dict)
    """The newest of each fact that is needed once."""
    _entered: list[tuple[float, str]] = field(default_factory=list)
    """When each state began."""
    _open: dict[str, Used] = field(default_factory=dict)
    """The uses that go on, by test."""
    _uses: list[Used] = field(default_factory=list)
    _notes: list[Note] = field(default_factory=list)
    _memory: list[GpuMemorySample] = field(default_factory=list)

    def take(self, time: float, row: Mapping[str, object]) -> None:
        """Take the next event."""
        for name in ("workload", "attempt", "offer", "instance_id", "verdict", "cut_short", "failed_in", "artifacts"):
            if name in row:
                self._row[name] = row[name]
        state = row.get("state")
        if isinstance(state, str) and state in _STATES and (not self._entered or self._entered[-1][1] != state):
            self._entered.append((time, state))
        if "use" in row:
            self._use(time, row)
        elif "used_mib" in row:
            self._sample(time, row)
        elif len(self._notes) < _MOST_NOTES and "verdict" not in row and "cut_short" not in row:
            self._notes.append(Note(time, line(row.get("text"))))

    def _use(self, time: float, row: Mapping[str, object]) -> None:
        test, run = line(row.get("test")), line(row.get("run"))
        name = test if run in ("", self.run) else f"{test} (run {run})"
        if row.get("use") == "begins":
            self._open[name] = Used(name, time, time, amount(row.get("waited_s")))
            return
        begun = self._open.pop(name, None)
        start = begun.start if begun else max(0.0, time - amount(row.get("seconds")))
        self._uses.append(Used(name, start, max(start, time), begun.waited_s if begun else 0.0))

    def _sample(self, time: float, row: Mapping[str, object]) -> None:
        used, total = row.get("used_mib"), row.get("total_mib")
        if isinstance(used, list) and isinstance(total, list) and len(self._memory) < _MOST_SAMPLES:
            pairs = list(zip(map(amount, used), map(amount, total), strict=False))
            self._memory.append(
                GpuMemorySample(time, tuple(each for each, _ in pairs), tuple(each for _, each in pairs))
            )

    def report(self, label: str, ended: float) -> InstanceReport:
        """The attempt.

        :param ended: The last moment of the run that is known: until then lasts what has not ended.
        """
        offer = _offer(sub_object(self._row.get("offer")))
        over = next((time for time, state in self._entered if state in _OVER), ended)
        uses = [*self._uses, *(use._replace(end=max(use.start, over)) for use in self._open.values())]
        return InstanceReport(
            label,
            id=whole(self._row.get("instance_id")),
            machine=offer.machine,
            gpu=offer.gpu,
            workload=line(self._row.get("workload")),
            attempt=whole(self._row.get("attempt")),
            usd_h=offer.usd_h,
            verdict=verdict_of(self._row.get("verdict")) or verdict_of(self._row.get("cut_short")),
            failed_in=line(self._row.get("failed_in"), 100),
            artifacts=line(self._row.get("artifacts")),
            phases=tuple(self._phases(ended)),
            tests=tuple(sorted(uses, key=lambda use: use.start)),
            notes=tuple(self._notes),
            considered=_marked(self.considered, offer.machine),
            gpu_memory=tuple(self._memory),
            gone=any(state == State.GONE for _, state in self._entered),
        )

    def _phases(self, ended: float) -> list[Phase]:
        ends = [time for time, _ in self._entered[1:]] + [ended]
        return [
            Phase(state, start, max(start, end))
            for (start, state), end in zip(self._entered, ends, strict=False)
            if state not in _OVER and start
        ]


def _marked(considered: Considered, machine: int) -> Considered:
    """The offers, with the one marked that was rented."""
    admitted = tuple(replace(each, taken=each.machine == machine != 0) for each in considered.admitted)
    return replace(considered, admitted=admitted)
