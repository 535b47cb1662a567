"""The run's record on disk of everything rented: written before it is rented, kept until it is verified gone."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from pathlib import Path

from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import parse_ledger
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.reputation.locked_files import sync_directory
from pytest_vastgpu.supervisor.ledger import by_user

_log = logging.getLogger("pytest_vastgpu")


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
            return parse_ledger(os.pread(self._file, os.fstat(self._file).st_size, 0))

    def close(self) -> None:
        """Close the file; it stays."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the ledger {path} cannot be written ({error.strerror}): nothing is rented without one; "
        "set XDG_STATE_HOME to a directory of yours"
    )
