"""Ownership of a run: the process that holds the lock in its directory is responsible for what the run has rented.

The supervisor holds the lock while it lives, and the operating system releases it when the supervisor dies. A process
that gets the lock then knows that the supervisor is dead, and takes over. Only one process holds it at a time.

Who only wants to know whether there is an owner takes the lock shared, for a moment: that is no ownership, neither to
others who look nor to somebody who becomes the owner just then.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

from pytest_vastgpu.core.fork_safety import close_private
from pytest_vastgpu.core.fork_safety import keep_private

LOCK = "owner.lock"
_LOOKS_WITHIN_S = 10.0
"""A look takes microseconds; a process that looks this long has been stopped."""
_PAUSE_S = 0.001


@contextmanager
def ownership(directory: Path) -> Iterator[bool]:
    """Try to own a run's directory for the time of a ``with`` block; yields whether that succeeded.

    :raises OSError: if the directory does not exist or cannot be written.
    """
    with _opened(directory) as descriptor:
        yield _own(descriptor)


def is_owned(directory: Path) -> bool:
    """Whether a living process owns a run's directory.

    :raises OSError: as :func:`ownership`.
    """
    with _opened(directory) as descriptor:
        return not _locked(descriptor, fcntl.LOCK_SH)


def _own(descriptor: int) -> bool:
    ends = time.monotonic() + _LOOKS_WITHIN_S
    while not _locked(descriptor, fcntl.LOCK_EX):
        if not _locked(descriptor, fcntl.LOCK_SH) or time.monotonic() >= ends:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # there is no owner: others look, or try as we do
        time.sleep(_PAUSE_S)
    return True


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = keep_private(os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        yield descriptor
    finally:
        with suppress(OSError):  # closed by a test
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that is just being started may have a copy
        close_private(descriptor)
