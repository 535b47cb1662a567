"""What the files of this machine say of a run: its ledger, its costs, its events. None of them has to be whole.

The files are those of any version of this package, and of runs that were killed while they wrote. What cannot be read
is left out; nothing here raises an exception.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_vastgpu.client import warm
from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.events import EVENTS
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.reporting import alive
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.artifacts import FOLDER
from pytest_vastgpu.reporting.cost_file import NAME
from pytest_vastgpu.reporting.run.json_values import content
from pytest_vastgpu.reporting.run.json_values import json_object
from pytest_vastgpu.reporting.run.json_values import number
from pytest_vastgpu.reporting.run.json_values import objects
from pytest_vastgpu.reporting.run.json_values import rows
from pytest_vastgpu.supervisor.ledger.by_user import is_destroyed
from pytest_vastgpu.supervisor.ledger.run_directory import is_alive
from pytest_vastgpu.supervisor.ledger.run_directory import run_directories


@dataclass(frozen=True)
class Step:
    """One event of an instance."""

    time: float
    """Epoch seconds."""
    state: str
    text: str


@dataclass(frozen=True)
class Rented:
    """One attempt of a run, from its ledger and its costs."""

    label: str
    id: int = 0
    """0 where it was never created, as far as is known."""
    workload: str = ""
    machine: int = 0
    gpu: str = ""
    usd_h: float = 0.0
    outcome: str = ""
    """``ready``, ``called off`` or a verdict; else the last step that is known."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    cost_usd: float = 0.0
    gone: bool = False
    kept_until: float = 0.0
    warm_until: float = 0.0
    """Epoch seconds until which it waits for the next run with ``--vast-reuse``; 0 where it does not."""
    left: bool = False
    """Whether it was not seen to be gone, and nobody looks after it."""
    tests: int = 0

    @property
    def failed(self) -> bool:
        """Whether it has a verdict."""
        return bool(self.outcome) and ":" in self.outcome


@dataclass(frozen=True)
class RunRecord:
    """A run of this machine."""

    directory: Path
    record: Record
    alive: bool
    """Whether its supervisor lives."""
    readable: bool
    """Whether it has a ledger that can be read."""
    started_at: float
    """Epoch seconds; of a run without a ledger, when its directory was last changed."""
    rented: Sequence[Rented] = ()
    cost_usd: float = 0.0
    tests: int = 0
    warm: int | None = None
    """How many instances its supervisor, which has outlived its pytest, keeps warm; None where it has not."""

    @property
    def id(self) -> str:
        """Its id."""
        return self.directory.name

    def state(self, now: float) -> str:
        """What has become of it, in a word or two."""
        if self.warm is not None:
            return f"warm {self.warm}" if self.warm else "over"
        if self.alive:
            return "alive"
        if not self.readable:
            return "no ledger"
        left = self.record.left(now)
        kept = [each for each in self.rented if each.kept_until > now and not each.gone]
        return f"left {len(left)}" if left else f"kept {len(kept)}" if kept else "over"

    def alive_of(self, rented: Rented, now: float) -> list[Alive]:
        """What is said of an attempt that is alive and that nobody uses; empty where there is nothing to say."""
        if rented.gone:
            return []
        what = rented.id or rented.label
        if rented.kept_until > now:
            until = rented.kept_until
            return [alive.kept(what, rented.usd_h, until, until - now, f"vastgpu ssh {what}")]
        if rented.warm_until > now:
            until = rented.warm_until
            return [alive.warm(what, rented.workload, rented.usd_h, until, until - now)]
        label = Label.parse(rented.label)
        return [alive.left(what, self.id, now, rented.usd_h, label.ends_at if label else 0.0)] if rented.left else []

    def artifacts(self, label: str) -> Path | None:
        """The directory with the evidence of a failed attempt; None where there is none."""
        parsed = Label.parse(label)
        folder = Path(self.record.started_in) / FOLDER / self.id / str(parsed.number if parsed else 0)
        return folder if self.record.started_in and folder.is_dir() else None


def all_runs() -> list[RunRecord]:
    """Every run of this machine, the newest first."""
    files, waiting = list(map(_read, run_directories())), _waiting()
    return sorted((_run(each, files, waiting) for each in files), key=lambda run: -run.started_at)


def steps(run: RunRecord) -> Mapping[str, Sequence[Step]]:
    """The events of each attempt of a run, by label; those of the run as a whole under an empty label."""
    found: dict[str, list[Step]] = {}
    for row in rows(content(run.directory / EVENTS)):
        step = Step(number(row.get("time")), str(row.get("state") or ""), str(row.get("text", "")))
        found.setdefault(str(row.get("label", "")), []).append(step)
    return found


@dataclass(frozen=True)
class _Files:
    """What the files of one run say."""

    directory: Path
    record: Record = field(default_factory=Record)
    readable: bool = False
    changed: float = 0.0
    costs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """What each instance has cost this run, by label."""
    tests: int = 0
    alive: bool = False


def _read(directory: Path) -> _Files:
    record, readable, changed = Record(), False, 0.0
    with suppress(OSError):
        changed = directory.stat().st_mtime  # which a first look at its owner changes
    lives = is_alive(directory)  # before its files are read: a run that ends meanwhile has left nothing
    with suppress(OSError):
        record = read_ledger(directory / FILE)
        readable = True
    costs = json_object(content(directory / NAME))
    rows = {str(row.get("label")): row for row in objects(costs.get("instances"))}
    rows = {label: row for label, row in rows.items() if Label.parse(label)}
    return _Files(directory, record, readable, changed, rows, len(objects(costs.get("tests"))), lives)


def _waiting() -> Mapping[str, Mapping[str, float]]:
    """What the supervisors of this user keep warm: by the run that started each, until when by label.

    A supervisor misses what the user has destroyed by hand only when a run wants it.
    """
    found = {known.run: warm.instances(known) for known in warm.all_warm()}
    return {
        run: {each.label: each.until for each in kept if not is_destroyed(runs_dir() / run, each.label)}
        for run, kept in found.items()
        if kept is not None
    }


def _run(own: _Files, files: Sequence[_Files], waiting: Mapping[str, Mapping[str, float]]) -> RunRecord:
    """A run with what it has paid for, and what its ledger has that no other run has paid for.

    With ``--vast-reuse`` one supervisor, and so one ledger, serves several runs, and each has its own costs.
    """
    paid_elsewhere = {label for each in files if each is not own for label in each.costs}
    entries = own.record.entries
    labels = [label for label in entries if label in own.costs or label not in paid_elsewhere]
    labels += [label for label in own.costs if label not in entries]
    owners = {label: each for each in files for label in each.record.entries}
    until = {label: at for kept in waiting.values() for label, at in kept.items()}
    rented = [
        _rented(label, own.costs.get(label, {}), owners.get(label), label in paid_elsewhere, until.get(label, 0.0))
        for label in labels
    ]
    kept = waiting.get(own.directory.name)
    return RunRecord(
        own.directory,
        own.record,
        own.alive,
        own.readable,
        own.record.started_at or own.changed,
        rented,
        sum(each.cost_usd for each in rented),
        own.tests,
        None if kept is None or _lives(own.record.started_by) else len(kept),
    )


def _rented(label: str, paid: Mapping[str, object], owner: _Files | None, shared: bool, warm_until: float) -> Rented:
    """An attempt as one run has it.

    :param paid: What the run has paid for it; empty where that is not known.
    :param owner: The run with the ledger that has it.
    :param shared: Whether other runs have paid for it, too: the ledger's cost is that of all.
    """
    entry = owner.record.entries[label] if owner is not None else LedgerEntry(label)
    seconds = paid.get("seconds")
    gone = entry.gone or owner is None or paid.get("gone") is True
    return Rented(
        label,
        entry.instance_id or int(number(paid.get("id"))),
        str(paid.get("workload", "")),
        int(number(paid.get("machine"))),
        str(paid.get("gpu", "")),
        number(paid.get("usd_h")),
        str(paid.get("outcome", "")) or entry.step,
        {str(name): number(value) for name, value in seconds.items()} if isinstance(seconds, dict) else {},
        number(paid.get("cost_usd")) if paid and shared else max(number(paid.get("cost_usd")), entry.cost_usd),
        gone,
        entry.kept_until,
        warm_until,
        not gone and owner is not None and not owner.alive and not owner.record.embedded,
        len(objects(paid.get("tests"))),
    )


def _lives(pid: int) -> bool:
    """Whether a process of this user lives."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
