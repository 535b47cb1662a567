"""The local files that a workload brings along: looked through when the workload is built, packed when they are sent.

A directory is brought with all that is below it. Links are followed, as ``cp -L`` does, empty directories are kept, and
a file is executable on the instance if it is here. What tools leave behind (:data:`LITTER`) stays here.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
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

LIMIT_MB = 256
"""Most that a workload brings along: it travels over SSH, from a machine that may have a slow line."""
LITTER = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)
"""Names that are left out wherever they are in a directory."""


@dataclass(frozen=True)
class Entry:
    """A file or directory to bring along."""

    name: str
    """Its path below the server's working directory."""
    path: str
    """Where it is on this machine."""
    is_directory: bool
    mode: int
    size: int
    """In bytes; 0 for a directory."""


def local_files(files: Mapping[str, str | Path] | None) -> tuple[tuple[str, str], ...]:
    """The value of a workload's field ``files``, after a look at what it names.

    :raises ConfigurationError: one line: which file, and what is wrong with it.
    """
    given = mapping("files", files, "{'server.py': 'path/to/server.py', 'lib': 'path/to/directory'}")
    found = tuple(sorted((str(name), _absolute(name, path)) for name, path in given.items()))
    entries(found)
    return found


def entries(files: Iterable[tuple[str, str]]) -> list[Entry]:
    """All that a workload brings along.

    :param files: The workload's field.
    :raises ConfigurationError: for a path that cannot be brought, and for more than :data:`LIMIT_MB` in all.
    """
    found: list[Entry] = []
    total = 0
    for name, path in files:
        for entry in _walk(name, path, named=True):
            found.append(entry)
            total += entry.size
            if total > LIMIT_MB * 10**6:
                raise ConfigurationError(
                    f"files: {path} makes them more than {LIMIT_MB} MB together, the most that is brought along; name "
                    "less, or have setup= download it on the instance"
                )
    return found


def packed(files: Iterable[tuple[str, str]]) -> bytes:
    """All that a workload brings along, as one tar archive.

    :raises ConfigurationError: as :func:`entries`, and for what cannot be read.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for entry in entries(files):
            info = tarfile.TarInfo(entry.name)
            info.mode = entry.mode
            if entry.is_directory:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                continue
            try:
                data = Path(entry.path).read_bytes()
            except OSError as error:
                raise ConfigurationError(_unreadable(entry.name, entry.path, error)) from error
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def contents(archive: bytes) -> dict[str, str]:
    """What an archive of :func:`packed` has: a digest of each file with its mode, by the file's name."""
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if (data := tar.extractfile(member)) is not None:
                found[member.name] = f"{member.mode:o} {hashlib.sha256(data.read()).hexdigest()}"
    return found


def _absolute(name: str, path: str | Path) -> str:
    for each in (name, path):
        if not isinstance(each, (str, Path)):
            raise WorkloadInvalid(f"files: {each!r} is of type {type(each).__name__}, not a path")
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ConfigurationError(f"files: {name!r} must be a path below the server's working directory")
    return str(real_paths.absolute(Path(path).expanduser()))


def _walk(name: str, path: str, above: frozenset[tuple[int, int]] = frozenset(), *, named: bool) -> Iterator[Entry]:
    """An entry, and all entries below it.

    :param above: The directories that it is in, by device and number.
    :param named: Whether the user has named it, and not just a directory that it is in.
    """
    try:
        found = real_paths.stat(path)
        below = real_paths.listdir(path) if stat.S_ISDIR(found.st_mode) else None
    except (OSError, ValueError) as error:
        raise ConfigurationError(_unreadable(name, path, error)) from error
    if below is not None:
        here = (found.st_dev, found.st_ino)
        if here in above:
            raise ConfigurationError(f"files: {path} (for {name!r}) is a link to a directory that it is in; remove it")
        yield Entry(name, path, True, 0o700, 0)
        for each in sorted(below):
            if each not in LITTER and not each.endswith(".pyc"):
                yield from _walk(f"{name}/{each}", f"{path}/{each}", above | {here}, named=False)
    elif stat.S_ISREG(found.st_mode):
        executable = named or bool(found.st_mode & 0o111)
        yield Entry(name, path, False, 0o700 if executable else 0o600, found.st_size)
    else:
        raise ConfigurationError(f"files: {path} (for {name!r}) is neither a file nor a directory; leave it out")


def _unreadable(name: str, path: str, error: OSError | ValueError) -> str:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return f"files: {path} (for {name!r}) cannot be read ({why}); give the path of a file or a directory"
