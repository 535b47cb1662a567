"""The directories in which runs keep files that outlive them."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from pytest_vastgpu.core.directories import is_private
from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.supervisor.ledger.ledger import make_directory

KEEP_RUNS = 20
"""Number of finished runs whose records are kept."""


def run_directories() -> list[Path]:
    """The directories of the runs of this machine, by name; without any that others could have written."""
    try:
        return list(filter(is_private, sorted(runs_dir().iterdir())))
    except OSError:  # there is none yet, or it cannot be read
        return []


def is_alive(directory: Path) -> bool:
    """Whether the supervisor of a run lives, as far as can be told: without locks, nobody rents."""
    try:
        return is_owned(directory)
    except OSError:
        return False


def make_run_directory(run_id: str) -> Path:
    """Make the directory of a run, for this user only; it survives a crash.

    :raises pytest_vastgpu.errors.ConfigurationError: if it cannot be made, or would lie in another user's directory.
    """
    for directory in (state_directory(), runs_dir(), runs_dir() / run_id):
        make_directory(directory)
    return directory


@contextlib.contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Own a run's directory for the time of a ``with`` block: this process answers for what the run rents.

    :raises pytest_vastgpu.errors.ConfigurationError: if the file system cannot lock.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(ownership(directory))
        except OSError as error:
            raise ConfigurationError(
                f"{directory} cannot be locked ({error.strerror}): set XDG_STATE_HOME to a directory on a local disk"
            ) from error
        yield


def forget_old_runs(runs: Path) -> None:
    """Remove the oldest records of runs that are over and have left nothing behind."""
    try:
        old = sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[KEEP_RUNS:]
    except OSError:
        return
    for directory in old:
        with contextlib.suppress(OSError), ownership(directory) as over:  # another run may be doing the same
            record = read_ledger(directory / FILE)
            if over and not record.key and not record.left(math.inf):
                shutil.rmtree(directory)
