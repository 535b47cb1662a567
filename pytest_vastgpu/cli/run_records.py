"""What the files of this machine say of a run: its ledger, its costs, its events. None of them has to be whole.

The files are those of any version of this package, and of runs that were killed while they wrote. What cannot be read
is left out; nothing here raises an exception.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_vastgpu.core.files import read_file
from pytest_vastgpu.reporting.artifacts import FOLDER
from pytest_vastgpu.reporting.cost_file import NAME
from pytest_vastgpu.supervisor.ledger.ledger import FILE
from pytest_vastgpu.supervisor.ledger.ledger import Label
from pytest_vastgpu.supervisor.ledger.ledger import LedgerEntry
from pytest_vastgpu.supervisor.ledger.ledger import Record
from pytest_vastgpu.supervisor.ledger.ledger import read_ledger
from pytest_vastgpu.supervisor.ledger.run_directory import is_alive
from pytest_vastgpu.supervisor.ledger.run_directory import run_directories

EVENTS = "events.jsonl"
_MOST_BYTES = 64 << 20


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
    readable: bool
    """Whether it has a ledger that can be read."""
    started_at: float
    """Epoch seconds; of a run without a ledger, when its directory was last changed."""
    rented: Sequence[Rented] = ()
    cost_usd: float = 0.0
    tests: int = 0

    @property
    def id(self) -> str:
        """Its id."""
        return self.directory.name

    def state(self, now: float) -> str:
        """What has become of it, in a word or two."""
        if self.alive:
            return "alive"
        if not self.readable:
            return "no ledger"
        left = self.record.left(now)
        kept = [each for each in self.rented if each.kept_until > now and not each.gone]
        return f"left {len(left)}" if left else f"kept {len(kept)}" if kept else "over"

    def artifacts(self, label: str) -> Path | None:
        """The directory with the evidence of a failed attempt; None where there is none."""
        parsed = Label.parse(label)
        folder = Path(self.record.started_in) / FOLDER / self.id / str(parsed.number if parsed else 0)
        return folder if self.record.started_in and folder.is_dir() else None


def all_runs() -> list[RunRecord]:
    """Every run of this machine, the newest first."""
    return sorted(map(_read, run_directories()), key=lambda run: -run.started_at)


def steps(run: RunRecord) -> Mapping[str, Sequence[Step]]:
    """The events of each attempt of a run, by label; those of the run as a whole under an empty label."""
    found: dict[str, list[Step]] = {}
    for row in _rows(_content(run.directory / EVENTS)):
        step = Step(_number(row.get("time")), str(row.get("state") or ""), str(row.get("text", "")))
        found.setdefault(str(row.get("label", "")), []).append(step)
    return found


def _read(directory: Path) -> RunRecord:
    record, readable, changed = Record(), False, 0.0
    with suppress(OSError):
        changed = directory.stat().st_mtime
        record = read_ledger(directory / FILE)
        readable = True
    costs = _object(_content(directory / NAME))
    paid = {str(row.get("label")): row for row in _objects(costs.get("instances"))}
    rented = [_rented(entry, paid.get(label, {})) for label, entry in record.entries.items()]
    cost_usd = sum(each.cost_usd for each in rented)
    tests = len(_objects(costs.get("tests")))
    return RunRecord(
        directory, record, is_alive(directory), readable, record.started_at or changed, rented, cost_usd, tests
    )


def _rented(entry: LedgerEntry, paid: Mapping[str, object]) -> Rented:
    seconds = paid.get("seconds")
    return Rented(
        entry.label,
        entry.instance_id,
        str(paid.get("workload", "")),
        int(_number(paid.get("machine"))),
        str(paid.get("gpu", "")),
        _number(paid.get("usd_h")),
        str(paid.get("outcome", "")) or entry.step,
        {str(name): _number(value) for name, value in seconds.items()} if isinstance(seconds, dict) else {},
        max(_number(paid.get("cost_usd")), entry.cost_usd),
        entry.gone,
        entry.kept_until,
        len(_objects(paid.get("tests"))),
    )


def _content(path: Path) -> bytes:
    try:
        return read_file(path, _MOST_BYTES)
    except OSError:
        return b""


def _object(data: bytes) -> Mapping[str, object]:
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    return {}


def _rows(data: bytes) -> Iterator[Mapping[str, object]]:
    return filter(None, map(_object, data.splitlines()))


def _objects(value: object) -> list[Mapping[str, object]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: object) -> float:
    """A finite number; 0 where it is none."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return 0.0
    with suppress(OverflowError):
        return float(value) if abs(value) < 1e15 else 0.0  # NaN is not below
    return 0.0
