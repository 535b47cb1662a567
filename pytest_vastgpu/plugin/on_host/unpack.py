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
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from typing import BinaryIO

from pytest_vastgpu.core.text import sanitize

MOST_BYTES = 2 * 10**9
"""Of one host, before they are compressed."""
MOST_FILES = 10_000
"""Of one host."""
_PART = 1 << 20
"""Most bytes that are held at once."""
_LENGTH = struct.Struct("!I")
_TOLD = 3
"""Of what did not arrive at most so much is named."""
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

    def refuse(self, name: str, why: str, count: int = 1) -> None:
        """Note that a file was not taken."""
        self.refused_count += count
        if len(self.refused) < _TOLD:
            self.refused.append(f"{sanitize.line(repr(name), 100)} ({sanitize.line(why, 100)})")


def unpack(stream: Iterable[bytes], target: Path, most_bytes: int = MOST_BYTES) -> Received:
    """Take files until the stream's end, or until it makes no sense any more. Raises nothing but what ``stream`` does.

    :param stream: What the host sends. What it raises as :class:`Broken` or :class:`OSError` is noted.
    :param target: An empty directory, or none yet.
    """
    got = Received()
    try:
        _take(_frames(_plain(stream)), target, got, most_bytes)
    except Broken as why:
        got.broken = str(why)
    except zlib.error:
        got.broken = "it sends what it should not"
    except OSError as error:
        what = "no room here" if error.errno in _NO_ROOM else "cannot be written here"
        got.broken = f"{what}: {sanitize.line(str(error), 200)}"
    return got


def _take(frames: Iterator[bytes], target: Path, got: Received, most_bytes: int) -> None:
    for frame in frames:
        header = _header(frame)
        if "end" in header:
            got.end = header["end"] if isinstance(header["end"], dict) else {}
            return
        name = header.get("name")
        if got.files >= MOST_FILES:
            raise Broken(f"it sends more than {MOST_FILES:,} files")
        with _opened(target, name, got) as file:
            got.files += file is not None
            while part := next(frames, b""):
                got.size += len(part)
                if got.size > most_bytes:
                    raise Broken(f"it sends more than {most_bytes / 1e9:g} GB")
                if file is not None:
                    file.write(part)
    raise Broken("what it sends ends too early")


def _opened(target: Path, name: object, got: Received) -> AbstractContextManager[BinaryIO | None]:
    """The file to write; None where it cannot be here.

    :raises OSError: no file can be written.
    """
    if not isinstance(name, str) or not name:
        raise Broken("it sends a file without a name")
    if wrong := _wrong_name(name):
        got.refuse(name, wrong)
        return nullcontext()
    try:
        path = target / os.fsdecode(name.encode("utf-8", "surrogateescape"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except UnicodeEncodeError:
        got.refuse(name, "it is no text")
    except OSError as error:
        if error.errno not in _NAMELESS:
            raise
        got.refuse(name, error.strerror or str(error))
    return nullcontext()


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
        raise Broken("it sends what it should not")
    return header


def _frames(data: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for part in data:
        held += part
        while len(held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(held)
            if length > _PART:
                raise Broken("it sends what it should not")
            if len(held) < _LENGTH.size + length:
                break
            yield bytes(held[_LENGTH.size : _LENGTH.size + length])
            del held[: _LENGTH.size + length]
    raise Broken("what it sends ends too early")


def _plain(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The data without its compression, in parts that are never large, whatever a few bytes grow to."""
    decompress = zlib.decompressobj()
    for data in stream:
        left = data
        while left and not decompress.eof:
            yield decompress.decompress(left, _PART)
            left = decompress.unconsumed_tail
