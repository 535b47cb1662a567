"""What the ledger of a run says: everything that it has rented, or was about to rent. Pure but for one read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

LABEL_PREFIX = "vastgpu"
FILE = "ledger.jsonl"
_OVER = frozenset({"gone", "not_created", "disowned"})
"""Steps after which there is nothing left to destroy."""


def make_label(run_id: str, number: int, ends_at: float) -> str:
    """The unique label of an attempt. It holds the run and the end of life, for a sweep that knows nothing else.

    :param ends_at: Epoch seconds of the instance's hard end of life.
    """
    return f"{LABEL_PREFIX}-{run_id}-{number}-{int(ends_at):x}"


@dataclass(frozen=True)
class Label:
    """The parts of a label."""

    run_id: str
    number: int
    ends_at: float

    @classmethod
    def parse(cls, text: str) -> Label | None:
        """The label's parts, or None where it is not one of ours."""
        parts = text.split("-")
        if len(parts) != 4 or parts[0] != LABEL_PREFIX or not parts[2].isdecimal():
            return None
        try:
            return cls(parts[1], int(parts[2]), float(int(parts[3], 16)))
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True)
class LedgerEntry:
    """The ledger's state of one attempt."""

    label: str
    instance_id: int = 0
    """0 until the market has returned it."""
    gone: bool = False
    """Whether the instance is verified gone, was certainly never created, or is no longer ours."""
    intended_at: float = 0.0
    """Epoch seconds of the step ``intended``."""
    kept_until: float = 0.0
    """Epoch seconds until which it is kept for inspection; 0 where it is not kept."""
    step: str = field(default="", compare=False)
    """The last step that was written, for people."""
    cost_usd: float = field(default=0.0, compare=False)
    """Upper bound of what it had cost by then, in USD."""


@dataclass(frozen=True)
class Record:
    """The content of a ledger. The fields of the run are empty where its first line was cut short."""

    market: str = ""
    """Identity of account and market; see :func:`pytest_vastgpu.providers.open.account_identity`."""
    url: str = ""
    pid: int = 0
    """Process id of the supervisor."""
    started_by: int = 0
    """Process id of the pytest that started it."""
    embedded: bool = False
    """Whether the market belonged to the run, and ended with it."""
    started_in: str = ""
    """The directory in which pytest was started; empty in ledgers of earlier versions."""
    started_at: float = 0.0
    """Epoch seconds."""
    guard: int = 0
    """Process id of the last guard."""
    key: str = ""
    """The SSH key whose record in the account the run has made, or will make, and which is to be taken out."""
    key_shared: bool = False
    """Whether other runs may use the same key."""
    entries: Mapping[str, LedgerEntry] = field(default_factory=dict)
    """Every attempt, by label."""

    def left(self, now: float) -> list[LedgerEntry]:
        """The attempts that may have left an instance behind; without those that are kept on purpose."""
        if self.embedded:
            return []
        return [entry for entry in self.entries.values() if not entry.gone and entry.kept_until <= now]


def read_ledger(path: Path) -> Record:
    """Read a ledger. It skips a line that a crash has cut short: recovery finds that instance on the market, by the
    label of an earlier line or by the run's id.

    :raises OSError: if it cannot be read.
    """
    return parse_ledger(path.read_bytes())


def parse_ledger(data: bytes) -> Record:
    """As :func:`read_ledger`, from the file's content."""
    record = Record()
    entries: dict[str, LedgerEntry] = {}
    for row in _rows(data):
        step, label = row.get("step"), row.get("label")
        if step == "run":
            record = replace(
                record,
                market=str(row.get("market", "")),
                url=str(row.get("url", "")),
                pid=_whole(row.get("pid")),
                started_by=_whole(row.get("started_by")),
                embedded=row.get("embedded") is True,
                started_in=str(row.get("directory", "")),
                started_at=_number(row.get("time")),
            )
        elif step == "guard":
            record = replace(record, guard=_whole(row.get("pid")))
        elif step == "key_added":
            record = replace(record, key=str(row.get("key", "")), key_shared=row.get("shared") is True)
        elif step == "key_gone":
            record = replace(record, key="")
        elif isinstance(label, str):
            entries[label] = _after(entries.get(label, LedgerEntry(label)), row)
    return replace(record, entries=entries)


def _after(entry: LedgerEntry, row: Mapping[str, object]) -> LedgerEntry:
    step = str(row.get("step"))
    return replace(
        entry,
        instance_id=_whole(row.get("instance_id")) or entry.instance_id,
        gone=entry.gone or step in _OVER,
        intended_at=_number(row.get("time")) if step == "intended" else entry.intended_at,
        kept_until=_number(row.get("until")) if step == "kept" else entry.kept_until,
        step=step,
        cost_usd=_number(row.get("cost_usd")) or entry.cost_usd,
    )


def _rows(data: bytes) -> Iterator[Mapping[str, object]]:
    for line in data.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _number(value: object) -> float:
    with contextlib.suppress(OverflowError):
        return float(value) if isinstance(value, (int, float)) else 0.0
    return 0.0
