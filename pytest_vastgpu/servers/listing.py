"""Lists of files that a workload brings along: one path in the workload stands for thousands of files.

A list is a file on this machine. It is read whenever the files are brought, so that a warm instance gets what the
newest list names. Names may hold any byte but NUL, which stands between them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.files import Entry
from pytest_vastgpu.servers.files import Stamp
from pytest_vastgpu.servers.files import entries
from pytest_vastgpu.servers.files import unreadable


@dataclass(frozen=True)
class Listing:
    """Files of one directory."""

    place: str
    """Where they go, below the working directory of the instance."""
    root: str
    """The directory on this machine."""
    names: Mapping[str, str]
    """Their paths in it; for a symbolic link that is brought as one, where it leads, else nothing."""


def write(path: Path, listing: Listing) -> None:
    """Write a list, in one step for whoever reads it meanwhile.

    :raises OSError: it cannot be written.
    """
    fields = [listing.place, listing.root, *(each for pair in listing.names.items() for each in pair)]
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_bytes(os.fsencode("\0".join(fields)))
    new.replace(path)


def names(path: str) -> list[str]:
    """The names in a list, by their paths in its directory.

    :raises ConfigurationError: the list cannot be read.
    """
    return _read(path)[2::2]


def brought_by(workload: Workload) -> list[Entry]:
    """All that a workload brings along.

    :raises ConfigurationError: as :func:`~pytest_vastgpu.servers.files.entries`, and for a list that cannot be read.
    """
    return [*entries(workload.files), *(_listed(workload.listing) if workload.listing else ())]


def _listed(path: str) -> list[Entry]:
    """What a list names and is still there: the rest has gone since it was written."""
    place, root, *pairs = _read(path)
    found = []
    for name, link in zip(pairs[::2], pairs[1::2], strict=True):
        source, target = f"{root}/{name}", f"{place}/{name}"
        try:
            status = os.stat(source, follow_symlinks=not link)  # noqa: PTH116 - thousands of paths
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigurationError(unreadable(target, source, error)) from error
        stamp = Stamp.of(status)
        if link:
            found.append(Entry(target, source, False, 0o777, 0, stamp, link))
        elif stat.S_ISDIR(status.st_mode):
            found.append(Entry(target, source, True, 0o700, 0, stamp))
        elif stat.S_ISREG(status.st_mode):
            mode = 0o700 if status.st_mode & 0o111 else 0o600
            found.append(Entry(target, source, False, mode, status.st_size, stamp, living=True))
    return found


def _read(path: str) -> list[str]:
    try:
        return os.fsdecode(Path(path).read_bytes()).split("\0")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(f"the list of files {path} cannot be read ({why}): run again") from error
