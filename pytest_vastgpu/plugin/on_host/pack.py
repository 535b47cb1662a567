"""A program that is run on a host: it sends files that tests have written there, as one compressed stream.

Its source is sent there, so it imports nothing but the standard library, and runs on any Python from 3.8 on. It reads
one line of JSON from its input, the request: see :func:`pack`. The stream is a sequence of frames, each with its length
in four bytes in front, and all of it compressed by zlib: for each file a header in JSON, its content in frames, and an
empty frame; then ``{"end": …}``. There is no form for a link, a device or a mode: a host cannot send one.
"""

from __future__ import annotations

import glob
import json
import math
import os
import stat
import struct
import sys
import zlib
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence
    from typing import Any
    from typing import BinaryIO

PART = 1 << 18
"""Most bytes of content in a frame."""
TOLD = 10
"""Of what is not sent at most so much is named."""
NAME_CHARS = 200
TOO_MUCH = "too much"
"""Why a file is not sent that does not fit any more."""
_LITTER = "__pycache__"
"""Python writes it beside whatever it loads."""


class _Unsendable(OSError):
    """Why a file is not sent, in words."""


class _Packer:
    """Sends files that have changed, as long as they fit."""

    def __init__(self, write: Callable[[bytes], object], most_bytes: int, most_files: int, since_ns: float) -> None:
        self._write = write
        self._compress = zlib.compressobj(1)
        self._bytes_left = most_bytes
        self._files_left = most_files
        self._since_ns = since_ns
        self._done: set[str] = set()
        self._unsent: list[tuple[str, str, int]] = []
        self._unsent_count = 0

    def _frame(self, data: bytes) -> None:
        self._write(self._compress.compress(struct.pack("!I", len(data)) + data))

    def end(self, **said: Any) -> None:
        """Send the last frame, and the end of the stream."""
        said.update(unsent=self._unsent, unsent_count=self._unsent_count)
        self._frame(json.dumps({"end": said}).encode())
        self._write(self._compress.flush())

    def file(self, path: Path, name: str, inside: Path) -> bool:
        """Send a file if it has changed, or note why it cannot be sent; whether it has changed.

        :param inside: A directory; what lies elsewhere, behind a link, is not sent.
        """
        if name in self._done:
            return True
        size = 0
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                found = os.fstat(file.fileno())
                size = found.st_size
                if not stat.S_ISREG(found.st_mode) or found.st_ctime_ns < self._since_ns:
                    return False
                if inside.resolve() not in path.resolve().parents:
                    raise _Unsendable("a link that leads elsewhere")
                if size > self._bytes_left or not self._files_left:
                    raise _Unsendable(TOO_MUCH)
                self._send(file, name, size)
        except OSError as error:
            self.unsendable(name, error, size)
        self._done.add(name)
        return True

    def unsendable(self, name: str, error: OSError, size: int = 0) -> None:
        """Note why a file, or what is in a directory, is not sent; once."""
        if name in self._done:
            return
        self._done.add(name)
        self._unsent_count += 1
        if len(self._unsent) < TOLD:
            why = "a link to a directory" if isinstance(error, IsADirectoryError) else error.strerror or str(error)
            self._unsent.append((name[:NAME_CHARS], why, size))

    def _send(self, file: BinaryIO, name: str, size: int) -> None:
        self._bytes_left -= size
        self._files_left -= 1
        self._frame(json.dumps({"name": name}).encode())
        while size and (part := file.read(min(size, PART))):  # what is appended meanwhile might never end
            size -= len(part)
            self._frame(part)
        self._frame(b"")


def pack(asked: Any, write: Callable[[bytes], object]) -> None:
    """Send what is asked for.

    :param asked: ``root``: the project's directory; ``patterns``: below it; ``since``: a file that was made when the
        run began here; ``tmp``: for each failed test ``as``, where its files go, and its ``path``, or ``below`` and
        ``begins``; ``most_bytes`` and ``most_files``.
    :param write: Takes bytes of the stream.
    """
    packer = _Packer(write, asked["most_bytes"], asked["most_files"], _made_ns(asked["since"]))
    root = Path(asked["root"])
    matches, gone = [], []
    closed = partial(_closed, packer, root, "")
    for pattern in asked["patterns"]:
        changed = [
            packer.file(path, _name(path, root), root)
            for top in sorted(set(_matching(root, PurePosixPath(pattern).parts, closed)))
            if _LITTER not in top.parts
            for path in _files(top, closed)
        ]
        matches.append((sum(changed), len(changed)))
    for each in asked["tmp"]:
        top = Path(each["path"]) if "path" in each else _newest(Path(each["below"]), each["begins"])
        if top is None or not top.is_dir():
            gone.append(each["as"])
            continue
        for path in _files(top, partial(_closed, packer, top, f"{each['as']}/")):
            packer.file(path, f"{each['as']}/{_name(path, top)}", top)
    packer.end(matches=matches, gone=gone)


def _made_ns(path: str) -> float:
    """When the run began here; if no worker has ever begun, nothing is of this run."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return math.inf


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe would be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _name(path: Path, start: Path) -> str:
    return os.fsencode(path.relative_to(start)).decode("utf-8", "surrogateescape")


def _closed(packer: _Packer, start: Path, place: str, error: OSError) -> None:
    """Note that a directory cannot be looked into; what is gone by then does not count."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        packer.unsendable(place + _name(Path(error.filename), start), error)


def _matching(folder: Path, parts: Sequence[str], closed: Callable[[OSError], object]) -> Iterator[Path]:
    """What a pattern matches, as ``Path.glob`` does, which one path that is too long ends with an error."""
    if not parts:
        yield folder
        return
    first, rest = parts[0], parts[1:]
    if not glob.has_magic(first):
        if os.path.lexists(folder / first):
            yield from _matching(folder / first, rest, closed)
        return
    if first == "**":
        yield from _matching(folder, rest, closed)
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        closed(error)
        return
    for entry in found:
        if first != "**":
            if fnmatchcase(entry.name, first):
                yield from _matching(folder / entry.name, rest, closed)
        elif entry.is_dir(follow_symlinks=False):
            yield from _matching(folder / entry.name, parts, closed)


def _files(top: Path, closed: Callable[[OSError], object]) -> Iterator[Path]:
    """The files below a directory, or the file itself. Links to directories are not followed."""
    try:
        is_folder = top.is_dir() and not top.is_symlink()
    except OSError:  # whoever opens it says why
        is_folder = False
    if not is_folder:
        yield top
        return
    for folder, folders, files in os.walk(top, onerror=closed):
        folders[:] = sorted(set(folders) - {_LITTER})
        yield from (Path(folder, file) for file in sorted(files))


def _newest(below: Path, begins: str) -> Path | None:
    """The ``tmp_path`` of a test that has crashed its worker: the last one there, if its name is such."""
    try:
        made = [path for path in below.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return None
    last = max(made, key=lambda path: path.stat().st_mtime_ns, default=None)
    return last if last and last.name.startswith(begins) and last.name[len(begins) :].isdigit() else None


def main() -> None:
    """Answer the request on the next line of the input."""
    pack(json.loads(sys.stdin.readline()), sys.stdout.buffer.write)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
