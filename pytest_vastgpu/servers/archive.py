"""The files of a workload on their way: tar archives that are read from the disk while they are sent."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import BinaryIO

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers.files import Entry
from pytest_vastgpu.servers.files import Stamp
from pytest_vastgpu.servers.files import unreadable

PART_BYTES = 256 << 10
"""Bytes that are read and sent at once."""
BATCH_BYTES = 64 << 20
"""Bytes of one archive, beside a larger file that is one by itself. What arrived whole is not sent again."""
_LINK = "link "
_SETTLED_NS = 2 * 10**9
"""A file that was written less than this before it was read may be written again without a sign: clocks of file systems
are coarse."""
_TRIES = 3
"""How often a file that is being written to is read, for a copy during which nothing wrote to it."""


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
    torn: Callable[[str], object] = lambda _name: None,
) -> Iterator[bytes]:
    """The parts of one tar archive.

    A file that may be written to meanwhile comes as it was at one moment, as far as that can be had: where it only
    grows, as it was when it was opened. One that has gone is left out.

    :param brought: Called with the name of each file, and what was read of it, once it is read whole.
    :param read: Called with the bytes of each part of a file, before it is given out.
    :param torn: Called with the name of a file that was written to each time that it was read.
    :raises ConfigurationError: one line: a file cannot be read any more, or has changed since it was looked at.
    """
    for entry in entries:
        if entry.is_directory or entry.link:
            yield _header(entry)
            if entry.link:
                brought(entry.name, Brought(_digest(entry), None))
        elif entry.living:
            yield from _living(entry, brought, read, torn)
        else:
            yield _header(entry)
            digest = hashlib.sha256()
            for part in _content(entry):
                digest.update(part)
                read(len(part))
                yield part
            yield b"\0" * (-entry.size % tarfile.BLOCKSIZE)
            brought(entry.name, _brought(entry, digest.hexdigest()))
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _header(entry: Entry) -> bytes:
    info = tarfile.TarInfo(entry.name)
    info.mode, info.size, info.linkname = entry.mode, entry.size, entry.link
    info.mtime = entry.stamp.modified_ns // 10**9
    info.type = tarfile.DIRTYPE if entry.is_directory else tarfile.SYMTYPE if entry.link else tarfile.REGTYPE
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _living(
    entry: Entry,
    brought: Callable[[str, Brought], object],
    read: Callable[[int], object],
    torn: Callable[[str], object],
) -> Iterator[bytes]:
    """A file that other programs may write to: a small one is read again until none has, a large one is sent again."""
    for tries in range(1, _TRIES + 1):
        try:
            with open(entry.path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return
                now = replace(entry, size=status.st_size, stamp=Stamp.of(status))
                part = file.read(min(now.size, PART_BYTES))
                if now.size <= PART_BYTES:
                    if tries < _TRIES and Stamp.of(os.fstat(file.fileno())) != now.stamp:
                        continue
                    now = replace(now, size=len(part))
                digest, left = hashlib.sha256(), now.size
                yield _header(now)
                while part:
                    left -= len(part)
                    digest.update(part)
                    read(len(part))
                    yield part
                    part = file.read(min(left, PART_BYTES))
                while left:  # it has become shorter
                    part = b"\0" * min(left, PART_BYTES)
                    left -= len(part)
                    yield part
                yield b"\0" * (-now.size % tarfile.BLOCKSIZE)
                after = Stamp.of(os.fstat(file.fileno()))
        except (FileNotFoundError, IsADirectoryError):
            return
        except OSError as error:
            raise ConfigurationError(unreadable(entry.name, entry.path, error)) from error
        known = _brought(now, digest.hexdigest())
        brought(entry.name, known if after == now.stamp else replace(known, stamp=None))
        if after == now.stamp or after.size > now.size:
            return
    torn(entry.name)


def same(entry: Entry, before: Brought | None) -> bool:
    """Whether a file is the one that was brought; it is read only where its stamp does not tell.

    :raises ConfigurationError: as :func:`packed`.
    """
    if before is None or not before.digest.startswith(f"{entry.mode:o} " if not entry.link else _LINK):
        return False
    try:
        return entry.stamp == before.stamp or _digest(entry) == before.digest
    except ConfigurationError:
        if entry.living:
            return False
        raise


def differing(entries: Iterable[Entry], before: Mapping[str, Brought]) -> list[str]:
    """The names of files that are not as they were when they were brought, or are only there or only here.

    :raises ConfigurationError: as :func:`packed`.
    """
    files = {entry.name: entry for entry in entries if not entry.is_directory}
    differ = [name for name, entry in files.items() if not same(entry, before.get(name))]
    return sorted([*differ, *(before.keys() - files.keys())])


def _digest(entry: Entry) -> str:
    if entry.link:
        return f"{_LINK}{entry.link}"
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
