"""The directories in which runs keep files that outlive them."""

from __future__ import annotations

from pathlib import Path

from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.supervisor.ledger.ledger import make_directory


def runs_dir() -> Path:
    """The directory that holds one directory for each run, named by its id."""
    return state_directory() / "runs"


def make_run_directory(run_id: str) -> Path:
    """Make the directory of a run, for this user only; it survives a crash.

    :raises pytest_vastgpu.errors.ConfigurationError: if it cannot be made, or would lie in another user's directory.
    """
    for directory in (state_directory(), runs_dir(), runs_dir() / run_id):
        make_directory(directory)
    return directory
