"""The local files that a workload brings along: looked through when the workload is built.

A directory is brought with all that is below it. Links are followed, as ``cp -L`` does, empty directories are kept, and
a file is executable on the instance if it is here. What tools leave behind (:data:`LITTER`) stays here.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePosixPath

from pytest_vastgpu.core import real_paths
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.servers.workloads import mapping

MOST_FILES = 100_000
"""Most files and directories that a workload brings along: more of them are a whole home or disk, named by mistake."""
LITTER = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)
"""Names that are left out wherever they are in a directory."""
_MOST_NAME_BYTES = 255
_MOST_PATH_BYTES = 4000
"""What Linux takes as a name and as a path, with room for the working directory."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes whenever a file is written, and is known without reading it."""

    device: int
    number: int
    size: int
    modified_ns: int
    changed_ns: int
    """When it, its name or its mode changed: no program can set this back."""

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a file, from what the system says of it."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory to bring along."""

    name: str
    """Its path below the server's working directory."""
    path: str
    """Where it is on this machine."""
    is_directory: bool
    mode: int
    size: int
    """In bytes; 0 for a directory and a link."""
    stamp: Stamp
    link: str = ""
    """Where a symbolic link leads that is brought as one."""
    living: bool = False
    """Whether it may be written to meanwhile, as a log is: then it comes as it is at that moment."""


def local_files(files: Mapping[str, str | Path] | None) -> tuple[tuple[str, str], ...]:
    """The value of a workload's field ``files``, after a look at what it names.

    :raises ConfigurationError: one line: which file, and what is wrong with it.
    """
    given = mapping("files", files, "{'server.py': 'path/to/server.py', 'lib': 'path/to/directory'}")
    found = tuple(sorted((str(name), _absolute(name, path)) for name, path in given.items()))
    entries(found)
    return found


def entries(files: Iterable[tuple[str, str]]) -> list[Entry]:
    """All that a workload brings along; of two files of one name the one that is named last.

    :param files: The workload's field.
    :raises ConfigurationError: for a path that cannot be brought, for names that no machine can have beside each other,
        for a directory that the home directory is in, and for more than :data:`MOST_FILES` in all.
    """
    found: dict[str, Entry] = {}
    homes = _above_home()
    named = [(str(PurePosixPath(name)), path) for name, path in files]
    for name, path in sorted(named, key=lambda pair: pair[0]):  # a directory before what is in it
        for entry in _walk(name, path, named=True):
            _require_place(entry, found)
            found[entry.name] = entry
            if entry.is_directory and (entry.stamp.device, entry.stamp.number) in homes:
                raise ConfigurationError(
                    f"files: {entry.path} (for {entry.name!r}) is your home directory, or holds it; name the "
                    "directories in it that the server needs"
                )
            if len(found) > MOST_FILES:
                raise ConfigurationError(
                    f"files: {path} makes them more than {MOST_FILES:,} files and directories together, the most that "
                    "is brought along; name less, or pack them into one file that setup= unpacks"
                )
    return list(found.values())


def _require_place(entry: Entry, others: Mapping[str, Entry]) -> None:
    """Check that an entry can be written beside those before it, which every machine would refuse in the same way.

    :raises ConfigurationError: it cannot.
    """
    parts = entry.name.encode("utf-8", "replace").split(b"/")
    if max(map(len, parts)) > _MOST_NAME_BYTES or sum(map(len, parts)) + len(parts) > _MOST_PATH_BYTES:
        raise ConfigurationError(f"files: the name {entry.name!r:.80} is too long for a file; give a shorter one")
    if entry.name == "." and not entry.is_directory:
        raise ConfigurationError(f"files: {entry.path} (for '.') is a file; give it a name in the working directory")
    other = others.get(entry.name)
    if other is None or other.is_directory == entry.is_directory:
        other, above = None, entry.name.rpartition("/")[0]
        while above and (other is None or other.is_directory):
            other, above = others.get(above), above.rpartition("/")[0]
        if other is None or other.is_directory:
            return
    raise ConfigurationError(
        f"files: {entry.path!r} (for {entry.name!r}) and {other.path!r} (for {other.name!r}) cannot both be there, "
        "since one of them is a file: rename one"
    )


def require_room(brought: Iterable[Entry], disk_gb: float) -> None:
    """Check that what a workload brings along fits onto the disk that it rents.

    :raises ConfigurationError: one line: it does not.
    """
    sizes = {entry.name: entry.size for entry in brought}
    total = sum(sizes.values())
    if total > disk_gb * 10**9:
        largest = max(sizes, key=lambda name: sizes[name])
        most = f"the largest is {largest!r} with {sizes[largest] / 1e9:.1f} GB"
        raise ConfigurationError(
            f"files: they have {total / 1e9:.1f} GB, {most}, and disk_gb={disk_gb:g} is less: give the workload "
            f"disk_gb={math.ceil(total / 1e9 + 1)} or more, or bring less"
        )


def _absolute(name: str, path: str | Path) -> str:
    for each in (name, path):
        if not isinstance(each, (str, Path)):
            raise WorkloadInvalid(f"files: {each!r} is of type {type(each).__name__}, not a path")
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ConfigurationError(f"files: {name!r} must be a path below the server's working directory")
    return str(whole(path))


def whole(path: str | Path) -> Path:
    """The absolute path that a user means: ``~`` is the home, and a relative one begins at the working directory.

    :raises ConfigurationError: one line: there is no such home, or no working directory any more.
    """
    try:
        return Path(real_paths.absolute(Path(path).expanduser()))
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(f"{str(path)!r} leads nowhere ({error}); give an absolute path") from error


def _walk(name: str, path: str, above: frozenset[tuple[int, int]] = frozenset(), *, named: bool) -> Iterator[Entry]:
    """An entry, and all entries below it.

    :param above: The directories that it is in, by device and number.
    :param named: Whether the user has named it, and not just a directory that it is in.
    """
    try:
        found = real_paths.stat(path)
        below = real_paths.listdir(path) if stat.S_ISDIR(found.st_mode) else None
    except (OSError, ValueError) as error:
        raise ConfigurationError(unreadable(name, path, error)) from error
    if below is not None:
        here = (found.st_dev, found.st_ino)
        if here in above:
            raise ConfigurationError(f"files: {path} (for {name!r}) is a link to a directory that it is in; remove it")
        yield Entry(name, path, True, 0o700, 0, Stamp.of(found))
        below_here, into = above | {here}, "" if name == "." else f"{name}/"
        for each in sorted(below):
            if each not in LITTER and not each.endswith(".pyc"):
                yield from _walk(f"{into}{each}", f"{path}/{each}", below_here, named=False)
    elif stat.S_ISREG(found.st_mode):
        executable = named or bool(found.st_mode & 0o111)
        yield Entry(name, path, False, 0o700 if executable else 0o600, found.st_size, Stamp.of(found))
    else:
        raise ConfigurationError(f"files: {path} (for {name!r}) is neither a file nor a directory; leave it out")


def _above_home() -> set[tuple[int, int]]:
    """The home directory and all that it is in, by device and number."""
    found: set[tuple[int, int]] = set()
    try:
        home = Path("~").expanduser().resolve()
    except (OSError, RuntimeError):  # there is none
        return found
    for path in (home, *home.parents):
        with contextlib.suppress(OSError):
            status = real_paths.stat(str(path))
            found.add((status.st_dev, status.st_ino))
    return found


def unreadable(name: str, path: str, error: OSError | ValueError) -> str:
    """What is told of a path that cannot be read."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    shown = repr(path) if any(ord(sign) < 32 for sign in path) else path
    return f"files: {shown} (for {name!r}) cannot be read ({why}); give the path of a file or a directory"
