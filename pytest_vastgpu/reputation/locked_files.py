"""How files are locked, written and put in place, so that a crash at any moment leaves the old or the new one.

The lock is ``filelock``'s on ``<name>.lock``, taken by a process that rewrites. One that appends takes the same lock
shared (``flock``, which is what filelock uses on POSIX systems): appenders never wait for each other, as the kernel
appends each of their documents as a whole, so that none of them can starve another.
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
"""A lock is held for milliseconds; one that is held that long belongs to a process that was stopped."""
POLL_S = 0.002
_HEAD_BYTES = 4096
MOST_BYTES = 16 << 20
"""Of a cache; what is kept (see :data:`pytest_vastgpu.reputation.contents.KEPT_IN_ALL`) takes a third of it."""
MOST_LINES = 500_000


def lock_path(path: Path) -> Path:
    """The file whose lock guards the one at ``path``."""
    return path.with_name(f"{path.name}.lock")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock alone: no process appends, none rewrites.

    :raises filelock.Timeout: if others held it for :data:`LOCK_TIMEOUT_S`.
    """
    with filelock.FileLock(lock_path(path), LOCK_TIMEOUT_S, mode=0o600, poll_interval=POLL_S):
        yield


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock together with others that append: no process rewrites.

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
    :raises OSError: if it cannot be read, is no regular file, or is longer than any cache.
    """
    data = read_file(path, MOST_BYTES)
    if data.count(b"\n") > MOST_LINES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_LINES} lines, as no host cache has", str(path))
    return data


def append(path: Path, data: bytes, head: re.Pattern[bytes]) -> bool:
    """Add to the end of a file.

    On return no crash of a process can lose it. It is not flushed to the disk, which takes a thousand times as long:
    where the power fails, the records of the last seconds may be missing, and one that was cut off is passed over.

    :param head: What must be found at the file's beginning.
    :returns: False where it is not found: nothing was written.
    :raises FileNotFoundError: if there is no such file.
    :raises HostCacheError: if only a part of it could be written.
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
    """A file beside ``path`` with that content, on disk; removed afterwards unless it was moved."""
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
    """A new file ``<name>.<why>-<time>`` beside ``path`` with that content, on disk; no file is ever overwritten."""
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
    """Bring to disk which files a directory has."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
