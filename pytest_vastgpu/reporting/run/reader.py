"""Reads what the files in a run's directory say of it: events, costs, tests, ledger, measurements.

The files are those of any version of this package, of runs that go on, and of runs that were killed while they wrote.
None of them has to be there, or to be whole. What cannot be read is left out, and :func:`read_run` raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_vastgpu.core import ledger_record
from pytest_vastgpu.core.events import EVENTS
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.ownership import LOCK
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import from_json
from pytest_vastgpu.model import State
from pytest_vastgpu.reporting import cost_file
from pytest_vastgpu.reporting import measurements
from pytest_vastgpu.reporting import tests_file
from pytest_vastgpu.reporting.measurements import Kept
from pytest_vastgpu.reporting.run.attempts import AttemptEvents
from pytest_vastgpu.reporting.run.attempts import considered_of
from pytest_vastgpu.reporting.run.attempts import verdict_of
from pytest_vastgpu.reporting.run.json_values import amount
from pytest_vastgpu.reporting.run.json_values import block
from pytest_vastgpu.reporting.run.json_values import content
from pytest_vastgpu.reporting.run.json_values import json_object
from pytest_vastgpu.reporting.run.json_values import line
from pytest_vastgpu.reporting.run.json_values import moment
from pytest_vastgpu.reporting.run.json_values import objects
from pytest_vastgpu.reporting.run.json_values import rows
from pytest_vastgpu.reporting.run.json_values import whole
from pytest_vastgpu.reporting.run.report import Considered
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import MarketPause
from pytest_vastgpu.reporting.run.report import Note
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import TestReport

_MOST_NOTES = 500
"""Of what is told of one instance, or of the run."""


def read_run(directory: Path) -> RunReport:
    """What the files in a run's directory say. One that is missing or damaged leaves out what only it says.

    :param directory: The run's own, named by the run's id.
    """
    running = _is_owned(directory)  # before what it writes is read: one that ends meanwhile was not broken off
    events = _Events(directory.name)
    for row in rows(content(directory / EVENTS)):
        events.take(row)
    costs, tests = json_object(content(directory / cost_file.NAME)), json_object(content(directory / tests_file.NAME))
    ledger = ledger_record.parse_ledger(content(directory / ledger_record.FILE))
    paid = {line(row.get("label")): row for row in objects(costs.get("instances"))}
    labels = [label for label in (*events.attempts, *ledger.entries, *paid) if label and Label.parse(label)]
    ended = max(events.last, moment(tests.get("ended")), moment(costs.get("written")))
    instances = [
        _instance(label, events.attempts.get(label), paid.get(label, {}), ledger.entries.get(label), ended)
        for label in dict.fromkeys(labels)
    ]
    return RunReport(
        id=line(directory.name),
        market=line(ledger.url) or line(costs.get("market")),
        play_money=ledger.embedded,
        started=moment(ledger.started_at) or moment(tests.get("started")) or events.first,
        ended=ended,
        running=running,
        over=tests.get("over") is True,
        exit_status=whole(tests["exit_status"]) if isinstance(tests.get("exit_status"), int) else None,
        command=line(tests.get("command")),
        directory=line(ledger.started_in),
        instances=tuple(instances),
        tests=tuple(_tests(tests, instances)),
        notes=tuple(events.notes[:_MOST_NOTES]),
        pauses=tuple(events.pauses),
        # Costs are written when an instance is gone: those of a killed run lack what the ledger knows.
        total_usd=(amount(costs.get("total_usd")) if paid else 0.0)
        + sum(each.cost_usd for each in instances if each.label not in paid),
        budget_usd=amount(costs.get("budget_usd")),
        measured=_measured(json_object(content(directory / measurements.NAME))),
        missing=tuple(
            f"{name} is missing, or cannot be read"
            for name, found in ((EVENTS, events.last), (cost_file.NAME, costs), (tests_file.NAME, tests))
            if not found
        ),
    )


@dataclass
class _Events:
    """What the events say so far."""

    run: str
    attempts: dict[str, AttemptEvents] = field(default_factory=dict)
    """By label."""
    notes: list[Note] = field(default_factory=list)
    pauses: list[MarketPause] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0
    _considered: dict[str, Considered] = field(default_factory=dict)
    """The newest of each workload, by its name."""

    def take(self, row: Mapping[str, object]) -> None:
        """Take the next event."""
        time = moment(row.get("time"))
        self.first, self.last = self.first or time, max(self.last, time)
        label = line(row.get("label"))
        if label:
            attempt = self.attempts.setdefault(label, AttemptEvents(self.run))
            if "offer" in row:
                attempt.considered = self._considered.get(line(row.get("workload")), Considered())
            attempt.take(time, row)
        elif "admitted" in row or "rejected" in row:
            self._considered[line(row.get("workload"))] = considered_of(row)
        else:
            if "wait_s" in row:
                self.pauses.append(MarketPause(time, time + amount(row.get("wait_s")), line(row.get("wait"))))
            self.notes.append(Note(time, line(row.get("text"))))


def _instance(
    label: str, events: AttemptEvents | None, paid: Mapping[str, object], entry: LedgerEntry | None, ended: float
) -> InstanceReport:
    """One attempt, from all files that say something of it.

    :param ended: The last moment of the run that is known.
    """
    parsed = Label.parse(label)
    found = events.report(label, ended) if events is not None else InstanceReport(label)
    gone = found.gone or paid.get("gone") is True or (entry is not None and entry.gone)
    spent = amount(paid.get("cost_usd")) if paid else amount(entry.cost_usd) if entry is not None else 0.0
    tests = {line(row.get("test")): amount(row.get("cost_usd")) for row in objects(paid.get("tests"))}
    return replace(
        found,
        number=parsed.number if parsed else 0,
        id=found.id or whole(paid.get("id")) or (whole(entry.instance_id) if entry else 0),
        machine=found.machine or whole(paid.get("machine")),
        gpu=found.gpu or line(paid.get("gpu")),
        workload=found.workload or line(paid.get("workload")),
        attempt=found.attempt or whole(paid.get("attempt")),
        usd_h=amount(paid.get("usd_h")) or found.usd_h,
        cost_usd=spent,
        overhead_usd=amount(paid.get("overhead_usd")),
        idle_usd=amount(paid.get("idle_usd")),
        transfer_usd=amount(paid.get("transfer_usd")),
        test_costs=tests,
        outcome=_outcome(found, paid, entry),
        gone=gone,
        ends_at=moment(parsed.ends_at) if parsed else 0.0,
        kept_until=moment(entry.kept_until) if entry is not None and not gone else 0.0,
    )


def _outcome(found: InstanceReport, paid: Mapping[str, object], entry: LedgerEntry | None) -> str:
    if found.verdict is not None:
        return str(found.verdict)
    if said := line(paid.get("outcome")):
        return said
    if any(phase.name == State.READY.value for phase in found.phases):
        return State.READY.value
    return line(entry.step) if entry is not None else ""


def _tests(document: Mapping[str, object], instances: Sequence[InstanceReport]) -> Iterator[TestReport]:
    """The tests; one that the file does not have, since the run was killed, from what the instances say."""
    usd = _summed(each.test_costs for each in instances)
    labels: dict[str, list[str]] = {}
    for each in instances:
        for test in (*(use.test for use in each.tests), *each.test_costs):
            labels.setdefault(test, []).append(each.label)
    evidence = {each.label: each.artifacts for each in instances if each.artifacts}
    by_host = {each.workload: each.label for each in instances}
    told = objects(document.get("tests"))
    for row in told:
        nodeid, host = line(row.get("test")), line(row.get("host"))
        used = dict.fromkeys([*labels.pop(nodeid, ()), *filter(None, [by_host.get(host, "") if host else ""])])
        verdict = verdict_of(row.get("verdict"))
        kept_in = line(row.get("artifacts"))
        yield TestReport(
            nodeid=nodeid,
            outcome=line(row.get("outcome")),
            when=line(row.get("when")),
            started=moment(row.get("started")),
            duration_s=amount(row.get("duration_s")),
            message=block(row.get("message")),
            verdict=verdict,
            attempts=whole(row.get("attempts")),
            tries=max(1, whole(row.get("tries"))),
            instances=tuple(used),
            host=host,
            cost_usd=usd.get(nodeid, 0.0),
            artifacts=kept_in or next((evidence[label] for label in used if verdict and label in evidence), ""),
        )
    for nodeid, used_labels in labels.items():
        starts = [use.start for each in instances for use in each.tests if use.test == nodeid]
        yield TestReport(
            nodeid,
            started=min(starts, default=0.0),
            instances=tuple(dict.fromkeys(used_labels)),
            cost_usd=usd.get(nodeid, 0.0),
        )


def _summed(costs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in costs:
        for test, usd in each.items():
            found[test] = found.get(test, 0.0) + usd
    return found


def _measured(document: Mapping[str, object]) -> Kept:
    """The measurements that can be read; those that cannot are left out."""
    measured, compared = list[tuple[str, Measured]](), list[tuple[str, Compared]]()
    for row in objects(document.get("measurements")):
        with suppress(ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            measured.append((line(row.get("test")), from_json(Measured, row)))
    for row in objects(document.get("comparisons")):
        with suppress(ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            compared.append((line(row.get("test")), from_json(Compared, row)))
    return Kept(measured, compared)


def _is_owned(directory: Path) -> bool:
    """Whether the supervisor of the run lives, as far as can be told. Nothing is written into the directory."""
    with suppress(OSError):
        return (directory / LOCK).exists() and is_owned(directory)
    return False
