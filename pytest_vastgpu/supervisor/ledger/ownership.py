"""Who answers for what a run has rented: whoever holds the lock in the run's directory.

The run holds it as long as it lives, and the system releases it however it dies; whoever gets it then knows that the
owner is dead, and takes over. Never two at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_vastgpu.core.fork_safety import close_private
from pytest_vastgpu.core.fork_safety import keep_private


@contextmanager
def ownership(directory: Path) -> Iterator[bool]:
    """Try to be the owner of a run's directory for the time of a ``with`` block; whether that came about.

    :raises OSError: if the directory is not there or cannot be written.
    """
    descriptor = keep_private(os.open(directory / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600))
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        close_private(descriptor)


def is_owned(directory: Path) -> bool:
    """Whether somebody alive answers for a run's directory."""
    with ownership(directory) as free:
        return not free
