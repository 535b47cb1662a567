"""Takes the files that a host sends, see :mod:`.pack`. Nothing that it says is believed.

A name leads to a place below the target directory or nowhere, and that directory was empty before, so that there is no
link to follow.
"""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_vastgpu.core.text import sanitize

MOST_BYTES = 2 * 10**9
"""Of one host, before they are compressed."""
MOST_FILES = 10_000
"""Of one host."""
_PART = 1 << 20
"""Most bytes that are held at once."""
_LENGTH = struct.Struct("!I")
TOLD = 3
"""Of what did not arrive at most so much is named."""
_NONSENSE = "it sends what it should not"
_CUT = "what it sends ends too early"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NAMELESS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL}
"""A file of that name cannot be here; others can."""


class Broken(Exception):
    """Nothing more can be taken; the text says why."""


@dataclass
class Received:
    """What has arrived."""

    files: int = 0
    size: int = 0
    """Bytes."""
    refused: list[str] = field(default_factory=list)
    """What was not taken, and why; the first few."""
    refused_count: int = 0
    end: dict[str, Any] = field(default_factory=dict)
    """What the host has said at the end. Not believed."""
    broken: str = ""
    """Why not all has arrived; empty if it has."""

    def refuse(self, name: str, why: str) -> None:
        """Note that a file was not taken."""
        self.refused_count += 1
        if len(self.refused) < TOLD:
            self.refused.append(f"{shown(name)} ({sanitize.line(why, 100)})")


def shown(name: str) -> str:
    """A file's name, safe to show."""
    return sanitize.line(repr(name), 100)


def unpack(
    stream: Iterable[bytes], target: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES
) -> Received:
    """Take files until the stream's end, or until it makes no sense any more. Raises nothing but what ``stream`` does.

    :param stream: What the host sends. What it raises as :class:`Broken` or :class:`OSError` is noted.
    :param target: An empty directory, or none yet.
    """
    got = Received()
    try:
        _take(_frames(_plain(stream)), target, got, most_bytes, most_files)
    except Broken as why:
        got.broken = str(why)
    except zlib.error:
        got.broken = _NONSENSE
    except OSError as error:
        what = "no room here" if error.errno in _NO_ROOM else "cannot be written here"
        got.broken = f"{what}: {sanitize.line(str(error), 200)}"
    return got


def _take(frames: Iterator[bytes], target: Path, got: Received, most_bytes: int, most_files: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        header = _header(frame)
        if "end" in header:
            got.end = header["end"] if isinstance(header["end"], dict) else {}
            return
        if got.files >= most_files:
            raise Broken(f"it sends more than {most_files:,} files")
        with _written(target, header.get("name"), got) as write:
            while part := next(frames, b""):
                got.size += len(part)
                if got.size > most_bytes:
                    raise Broken(f"it sends more than {most_bytes / 1e9:g} GB")
                write(part)
    raise Broken(_CUT)


@contextmanager
def _written(target: Path, name: object, got: Received) -> Iterator[Callable[[bytes], object]]:
    """What takes a file's content; nobody does where the file cannot be here. Half a file is removed.

    :raises OSError: no file can be written.
    """
    path = _place(target, name, got)
    try:
        file = path.open("xb") if path else None
    except OSError as error:
        if error.errno not in _NAMELESS:
            raise
        got.refuse(str(name), error.strerror or str(error))
        file = None
    if path is None or file is None:
        yield len
        return
    try:
        with file:
            yield file.write
    except BaseException:
        path.unlink()
        raise
    got.files += 1


def _place(target: Path, name: object, got: Received) -> Path | None:
    """Where a file goes, in a directory that is there; None where it cannot be here."""
    if not isinstance(name, str) or not name:
        raise Broken(_NONSENSE)
    if wrong := _wrong_name(name):
        got.refuse(name, wrong)
        return None
    try:
        path = target / os.fsdecode(name.encode("utf-8", "surrogateescape"))
        path.parent.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError:
        got.refuse(name, "its name is no text")
    except OSError as error:
        if error.errno not in _NAMELESS:
            raise
        got.refuse(name, error.strerror or str(error))
    else:
        return path
    return None


def _wrong_name(name: str) -> str:
    """What is wrong with a file's name; empty if nothing is."""
    if _CONTROL.search(name):
        return "its name has control characters"
    if any(part in {"", ".", ".."} for part in name.split("/")):
        return "its name leads elsewhere"
    return ""


def _header(frame: bytes) -> dict[str, Any]:
    try:
        header = json.loads(frame)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise Broken(_NONSENSE)
    return header


def _frames(data: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for part in data:
        held += part
        while len(held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(held)
            if length > _PART:
                raise Broken(_NONSENSE)
            if len(held) < _LENGTH.size + length:
                break
            yield bytes(held[_LENGTH.size : _LENGTH.size + length])
            del held[: _LENGTH.size + length]
    raise Broken(_CUT)


def _plain(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The data without its compression, in parts that are never large, whatever a few bytes grow to."""
    decompress = zlib.decompressobj()
    for data in stream:
        left = data
        while left and not decompress.eof:
            yield decompress.decompress(left, _PART)
            left = decompress.unconsumed_tail
