"""The files of a workload on their way: tar archives that are read from the disk while they are sent.

They are not compressed: what is large are weights, of which a compressor takes off little.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers.files import Entry
from pytest_vastgpu.servers.files import Stamp
from pytest_vastgpu.servers.files import unreadable

PART_BYTES = 256 << 10
"""Bytes that are read and sent at once."""
BATCH_BYTES = 64 << 20
"""Bytes of one archive, beside a larger file that is one by itself. What arrived whole is not sent again."""
_SETTLED_NS = 2 * 10**9
"""A file that was written less than this before it was read may be written again without a sign: clocks of file systems
are coarse."""


@dataclass(frozen=True)
class Brought:
    """What was brought of a file."""

    digest: str
    """Of its content and mode."""
    stamp: Stamp | None
    """Its stamp when it was read; None where the same stamp would not mean the same content."""


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries in the order given, in groups that are sent as one archive each."""
    group: list[Entry] = []
    size = 0
    for entry in entries:
        if group and size + entry.size > BATCH_BYTES:
            yield group
            group, size = [], 0
        group.append(entry)
        size += entry.size
    if group:
        yield group


def packed(
    entries: Iterable[Entry],
    brought: Callable[[str, Brought], object] = lambda _name, _brought: None,
    read: Callable[[int], object] = lambda _bytes: None,
) -> Iterator[bytes]:
    """The parts of one tar archive.

    :param brought: Called with the name of each file, and what was read of it, once it is read whole.
    :param read: Called with the bytes of each part of a file, before it is given out.
    :raises ConfigurationError: one line: a file cannot be read any more, or has changed since it was looked at.
    """
    for entry in entries:
        info = tarfile.TarInfo(entry.name)
        info.mode, info.size = entry.mode, entry.size
        info.mtime = entry.stamp.modified_ns // 10**9
        info.type = tarfile.DIRTYPE if entry.is_directory else tarfile.REGTYPE
        yield info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        if entry.is_directory:
            continue
        digest = hashlib.sha256()
        for part in _content(entry):
            digest.update(part)
            read(len(part))
            yield part
        yield b"\0" * (-entry.size % tarfile.BLOCKSIZE)
        brought(entry.name, _brought(entry, digest.hexdigest()))
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def same(entry: Entry, before: Brought | None) -> bool:
    """Whether a file is the one that was brought; it is read only where its stamp does not tell.

    :raises ConfigurationError: as :func:`packed`.
    """
    if before is None or not before.digest.startswith(f"{entry.mode:o} "):
        return False
    return entry.stamp == before.stamp or _digest(entry) == before.digest


def differing(entries: Iterable[Entry], before: Mapping[str, Brought]) -> list[str]:
    """The names of files that are not as they were when they were brought, or are only there or only here.

    :raises ConfigurationError: as :func:`packed`.
    """
    files = {entry.name: entry for entry in entries if not entry.is_directory}
    differ = [name for name, entry in files.items() if not same(entry, before.get(name))]
    return sorted([*differ, *(before.keys() - files.keys())])


def _digest(entry: Entry) -> str:
    digest = hashlib.sha256()
    for part in _content(entry):
        digest.update(part)
    return f"{entry.mode:o} {digest.hexdigest()}"


def _brought(entry: Entry, digest: str) -> Brought:
    stamp = entry.stamp
    settled = time.time_ns() - max(stamp.modified_ns, stamp.changed_ns) > _SETTLED_NS
    return Brought(f"{entry.mode:o} {digest}", stamp if settled else None)


def _content(entry: Entry) -> Iterator[bytes]:
    """What a file holds.

    :raises ConfigurationError: it cannot be read, or is not the one that was looked at, or changes meanwhile.
    """
    left = entry.size
    try:
        with open(entry.path, "rb", opener=_without_waiting) as file:
            _check_same(entry, file)
            while left and (part := file.read(min(left, PART_BYTES))):
                left -= len(part)
                yield part
            _check_same(entry, file)
    except OSError as error:
        raise ConfigurationError(unreadable(entry.name, entry.path, error)) from error
    if left:
        raise ConfigurationError(_differs(entry, f"{left} bytes of its {entry.size} were missing"))


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has taken its place is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_same(entry: Entry, file: BinaryIO) -> None:
    now = Stamp.of(os.fstat(file.fileno()))
    if now == entry.stamp:
        return
    sizes = f"it had {entry.size} bytes and has {now.size}"
    raise ConfigurationError(_differs(entry, sizes if now.size != entry.size else "it was written to"))


def _differs(entry: Entry, how: str) -> str:
    what = f"files: {entry.path} (for {entry.name!r}) changed while it was brought"
    return f"{what}: {how}; run again once nothing writes to it"
