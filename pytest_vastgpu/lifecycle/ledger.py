"""The run's record on disk of everything rented: written before it is rented, kept until it is verified gone."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.errors import ConfigurationError

LABEL_PREFIX = "vastgpu"


def make_label(run_id: str, number: int, ends_at: float) -> str:
    """The unique label of an attempt: whose it is and when it must be gone, for a sweep that knows nothing else.

    :param ends_at: Epoch seconds of the instance's hard end of life.
    """
    return f"{LABEL_PREFIX}-{run_id}-{number}-{int(ends_at):x}"


@dataclass(frozen=True)
class Label:
    """What a label of ours says."""

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
        except ValueError:
            return None


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one attempt."""

    label: str
    instance_id: int
    """0 while the market has not told it."""
    gone: bool
    """Verified to be gone, or certain never to have been."""


class Ledger:
    """An append-only file of JSON lines, each on disk (fsync) before the call returns.

    :param directory: The run's own directory; made with mode 0700.
    :raises ConfigurationError: if the directory cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ledger.jsonl"
        self._lock = threading.Lock()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the ledger {self.path} cannot be written ({error.strerror}): nothing is rented without one; "
                "set XDG_STATE_HOME to a directory of yours"
            ) from error

    def write(self, label: str, step: str, **facts: object) -> None:
        """Append one line. Steps: ``intended``, ``created``, any state, ``gone``, ``not_created``."""
        line = json.dumps({"time": round(time.time(), 3), "label": label, "step": step, **facts}) + "\n"
        with self._lock:
            os.write(self._file, line.encode())
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file; it stays."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def read_ledger(path: Path) -> dict[str, Entry]:
    """Every attempt in a ledger, by label. A line that a crash cut short is passed over: what it was to say is looked
    up on the market by the label of the line before.
    """
    entries: dict[str, Entry] = {}
    for row in _rows(path):
        label = str(row.get("label", ""))
        before = entries.get(label, Entry(label, 0, gone=False))
        number = row.get("instance_id")
        entries[label] = Entry(
            label,
            number if isinstance(number, int) else before.instance_id,
            gone=before.gone or row.get("step") in {"gone", "not_created"},
        )
    return entries


def _rows(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
