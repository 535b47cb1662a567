"""The run's record on disk of everything rented: written before it is rented, kept until it is verified gone."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.reputation.locked_files import sync_directory
from pytest_vastgpu.supervisor.ledger import by_user

LABEL_PREFIX = "vastgpu"
FILE = "ledger.jsonl"
_OVER = frozenset({"gone", "not_created", "disowned"})
"""Steps after which there is nothing left to destroy."""

_log = logging.getLogger("pytest_vastgpu")


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


def make_directory(directory: Path) -> None:
    """Make the directory of a ledger, for this user only; it survives a crash.

    :raises ConfigurationError: if it cannot be made, or belongs to another user.
    """
    try:
        private_directory(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise _unwritable(directory, error) from error


class Ledger:
    """An append-only file of JSON lines, each on disk (fsync) before the call returns. Thread-safe.

    :param directory: The run's own directory; made with mode 0700.
    :raises ConfigurationError: if the directory cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._lock = threading.Lock()
        make_directory(directory)
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            size = os.fstat(self._file).st_size
            # A line that a crash has cut short must not run into the next one.
            self._ragged = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
            sync_directory(directory)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def begin(self, run_id: str, market: str, url: str, *, embedded: bool, started_in: str = "") -> None:
        """Write the first line, which identifies the run. The supervisor, a child of the pytest process, calls this.

        :param market: See :attr:`Record.market`.
        :param started_in: See :attr:`Record.started_in`.
        :raises ConfigurationError: if it cannot be written.
        """
        processes = {"pid": os.getpid(), "started_by": os.getppid()}
        self.write("", "run", run=run_id, market=market, url=url, embedded=embedded, directory=started_in, **processes)

    def write(self, label: str, step: str, **facts: object) -> None:
        """Append one line. Steps of an attempt: ``intended``, ``created`` (with ``instance_id``), any state, ``kept``
        (with ``until``), ``gone``, ``not_created``, ``disowned``; of the run: ``run``, ``guard`` (with ``pid``),
        ``key_added`` (with ``key`` and ``shared``), ``key_gone``.

        After ``intended`` no line is indispensable, since the market knows the label. A failure to write a later line
        is only logged, and never prevents a destroy.

        :raises ConfigurationError: if ``run`` or ``intended`` cannot be written: nothing must be rented then.
        """
        row = {"time": round(time.time(), 3), **({"label": label} if label else {}), "step": step, **facts}
        with self._lock:
            try:
                # A test has removed the file: no recovery would find it.
                if step == "intended" and not os.fstat(self._file).st_nlink:
                    raise FileNotFoundError(errno.ENOENT, "it was removed")
                self._append(json.dumps(sanitize.clean(row)).encode() + b"\n")
            except OSError as error:
                if step in {"run", "intended"}:
                    raise _unwritable(self.path, error) from error
                _log.warning("the ledger %s cannot be written: %s", self.path, error.strerror)

    def _append(self, line: bytes) -> None:
        start, self._ragged = b"\n" * self._ragged, True
        if os.write(self._file, start + line) < len(start + line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._ragged = False
        os.fsync(self._file)

    def destroyed_by_user(self, label: str) -> bool:
        """See :func:`~pytest_vastgpu.supervisor.ledger.by_user.is_destroyed`."""
        return by_user.is_destroyed(self.path.parent, label)

    def record(self) -> Record:
        """Read the ledger, also where a test has removed the file.

        :raises OSError: if it cannot be read.
        """
        with self._lock:
            return _record(os.pread(self._file, os.fstat(self._file).st_size, 0))

    def close(self) -> None:
        """Close the file; it stays."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def read_ledger(path: Path) -> Record:
    """Read a ledger. It skips a line that a crash has cut short: recovery finds that instance on the market, by the
    label of an earlier line or by the run's id.

    :raises OSError: if it cannot be read.
    """
    return _record(path.read_bytes())


def _record(data: bytes) -> Record:
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
    step = row.get("step")
    return replace(
        entry,
        instance_id=_whole(row.get("instance_id")) or entry.instance_id,
        gone=entry.gone or step in _OVER,
        intended_at=_number(row.get("time")) if step == "intended" else entry.intended_at,
        kept_until=_number(row.get("until")) if step == "kept" else entry.kept_until,
        step=str(step),
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
    return float(value) if isinstance(value, (int, float)) else 0.0


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the ledger {path} cannot be written ({error.strerror}): nothing is rented without one; "
        "set XDG_STATE_HOME to a directory of yours"
    )
