"""Ownership of a run: the process that holds the lock in its directory is responsible for what the run has rented.

The supervisor holds the lock while it lives, and the operating system releases it when the supervisor dies. A process
that gets the lock then knows that the supervisor is dead, and takes over. Only one process holds it at a time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_vastgpu.core.fork_safety import close_private
from pytest_vastgpu.core.fork_safety import keep_private

LOCK = "owner.lock"


@contextmanager
def ownership(directory: Path) -> Iterator[bool]:
    """Try to own a run's directory for the time of a ``with`` block; yields whether that succeeded.

    :raises OSError: if the directory does not exist or cannot be written.
    """
    descriptor = keep_private(os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600))
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
    """Whether a living process owns a run's directory."""
    with ownership(directory) as free:
        return not free
