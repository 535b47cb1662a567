"""Locks, writes and replaces files so that a crash at any moment leaves either the old or the new file.

The lock is ``filelock``'s on ``<name>.lock``, which a process takes to rewrite. A process that appends takes the same
lock shared (``flock``, which is what filelock uses on POSIX systems). Appending processes never wait for each other and
cannot starve each other, because the kernel appends each document as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from pytest_vastgpu.core.files import read_file
from pytest_vastgpu.errors import HostCacheError

LOCK_TIMEOUT_S = 30.0
"""A lock is held for milliseconds; a process that holds it this long has been stopped."""
POLL_S = 0.002
_HEAD_BYTES = 4096
MOST_BYTES = 16 << 20
"""Largest cache in bytes; what is kept (see :data:`pytest_vastgpu.reputation.contents.KEPT_IN_ALL`) takes a third."""
MOST_LINES = 500_000


def lock_path(path: Path) -> Path:
    """The lock file for the file at ``path``."""
    return path.with_name(f"{path.name}.lock")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock alone: no other process appends or rewrites.

    :raises filelock.Timeout: if others held it for :data:`LOCK_TIMEOUT_S`.
    """
    with filelock.FileLock(lock_path(path), LOCK_TIMEOUT_S, mode=0o600, poll_interval=POLL_S):
        yield


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock together with other appending processes: no process rewrites.

    :raises filelock.Timeout: if another process held it alone for :data:`LOCK_TIMEOUT_S`.
    """
    lock = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise filelock.Timeout(str(lock_path(path))) from None
                time.sleep(POLL_S)
        yield
    finally:
        os.close(lock)


def read(path: Path) -> bytes:
    """The content of a cache.

    :raises FileNotFoundError: if there is none.
    :raises OSError: if it cannot be read, is no regular file, or is too large for a cache.
    """
    data = read_file(path, MOST_BYTES)
    if data.count(b"\n") > MOST_LINES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_LINES} lines, as no host cache has", str(path))
    return data


def append(path: Path, data: bytes, head: re.Pattern[bytes]) -> bool:
    """Append to a file.

    After the return no crash of a process can lose the data. It is not flushed to the disk, which takes a thousand
    times as long: a power failure can lose the records of the last seconds, and readers skip one that is cut off.

    :param head: Pattern that the file's beginning must match.
    :returns: False if it does not match; then nothing was written.
    :raises FileNotFoundError: if there is no such file.
    :raises HostCacheError: if only a part of the data could be written.
    """
    with shared(path):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            if not head.search(os.pread(file, _HEAD_BYTES, 0)):
                return False
            written = os.write(file, data)
        finally:
            os.close(file)
    if written < len(data):
        raise HostCacheError(f"{path}: only a part of a record could be written: is the disk full?")
    return True


@contextlib.contextmanager
def draft(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside ``path`` with that content, flushed to disk; it is removed afterwards unless it was moved."""
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    made = Path(name)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield made
    finally:
        made.unlink(missing_ok=True)


def set_aside(path: Path, data: bytes, why: str) -> Path:
    """Write a new file ``<name>.<why>-<time>`` beside ``path``, flushed to disk; this overwrites no file."""
    name = f"{path.name}.{why}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    for number in range(1, 1000):
        aside = path.with_name(name if number == 1 else f"{name}-{number}")
        try:
            file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        sync_directory(path.parent)
        return aside
    raise HostCacheError(f"there are 1000 files {path.with_name(name)}* already: move some of them away")


def sync_directory(path: Path) -> None:
    """Flush a directory's list of files to disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
