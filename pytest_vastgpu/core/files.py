"""Reads files that the user names, which may be of any kind and size; writes files of which no half is ever seen."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_file(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file. It never waits, neither for the writer of a pipe nor for the end of a device.

    :raises FileNotFoundError: if the file does not exist.
    :raises OSError: if it cannot be read, is no regular file or is larger; ``strerror`` says which.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
            raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
        with os.fdopen(file, "rb", closefd=False) as stream:
            data = stream.read(most_bytes + 1)
    finally:
        os.close(file)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes >> 20} MiB", str(path))
    return data


def write_whole(path: Path, text: str) -> None:
    """Write a file in place of an old one, which stays whole if that fails.

    :raises OSError: if it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
