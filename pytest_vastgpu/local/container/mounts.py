"""An instance's own shared memory, temporary files, host name and ``/etc/environment``, as in a container.

All of them are in the instance's own mount namespace: no other process sees them, and they end with the instance.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from pytest_vastgpu.local.container import isolation

SETTINGS = Path("/etc/environment")
HOSTS = Path("/etc/hosts")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - an instance has its own
TEMPORARY = SHARED_MEMORY / "tmp"
FULL_DISK_BYTES = 1 << 20


def hide(hidden: Iterable[str], kept: Iterable[str], directory: Path) -> None:
    """Bind empty directories of the instance's own over directories of this machine.

    :param hidden: The directories; one that does not exist is passed over, so that a fleet file may go elsewhere.
    :param kept: What lies below one of them and is seen all the same, at its own path.
    :param directory: The instance's disk, where the empty directories are.
    """
    found = {path for each in hidden if (path := Path(each).resolve()).is_dir()}
    outermost = [path for path in found if found.isdisjoint(path.parents)]
    there = [path for each in kept if (path := Path(each).resolve()).exists()]
    seen = [path for path in there if not found.isdisjoint((path, *path.parents))]
    # Opened before anything is hidden: afterwards their paths lead nowhere.
    sources = [(path, os.open(_own_in_place_of(path, directory / "hidden"), os.O_PATH)) for path in outermost]
    sources += [(path, os.open(path, os.O_PATH)) for path in seen]
    for path, source in sources:
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(source).st_mode):
            path.mkdir(exist_ok=True)
        else:
            path.touch()
        isolation.bind(Path(f"/proc/self/fd/{source}"), path)
        os.close(source)


def _own_in_place_of(path: Path, folder: Path) -> Path:
    """An empty directory with the mode of another, such as that of ``/tmp``."""
    own = folder / str(path).replace("/", "_")
    own.mkdir(parents=True, exist_ok=True)
    own.chmod(stat.S_IMODE(path.stat().st_mode))
    return own


def own_settings(directory: Path) -> Path | None:
    """Give the instance an empty ``/etc/environment``: start scripts on Vast fill it with variables for SSH sessions.

    :param directory: The instance's disk.
    :returns: The file; None if this machine has no ``/etc/environment``.
    """
    if not SETTINGS.is_file():
        return None
    own = directory / "environment"
    own.touch()
    isolation.bind(own, SETTINGS)
    return own


def own_host_name(directory: Path, name: str) -> None:
    """Set the host name and, as Docker does, its entry in ``/etc/hosts``."""
    socket.sethostname(name)
    if HOSTS.is_file():
        own = directory / "hosts"
        own.write_text(f"{HOSTS.read_text()}\n127.0.0.1\t{name}\n")
        isolation.bind(own, HOSTS)


def own_temporary_files(directory: Path) -> dict[str, str]:
    """Give the instance its own shared memory and ``TMPDIR``: files of a killed server must not outlive the instance.

    The temporary files are on its disk, under a short path: the path of a socket must fit into 107 bytes.
    ``/tmp`` itself stays that of this machine, because the user's programs and models may be there.

    :returns: The variables with the path.
    """
    if not SHARED_MEMORY.is_dir():
        return {}
    size = os.statvfs(SHARED_MEMORY)
    isolation.mount_tmpfs(SHARED_MEMORY, size.f_blocks * size.f_frsize)
    kept = directory / "tmp"
    for each in (kept, TEMPORARY):
        each.mkdir(exist_ok=True)
    isolation.bind(kept, TEMPORARY)
    return {"TMPDIR": str(TEMPORARY)}


def fill_disk(directory: Path, home: Path) -> None:
    """Put the home on a small file system without free space."""
    full = directory / "full"
    shutil.copytree(home, full, symlinks=True, dirs_exist_ok=True)
    isolation.mount_tmpfs(home, FULL_DISK_BYTES)
    shutil.copytree(full, home, symlinks=True, dirs_exist_ok=True)
    with (home / ".filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"\0" * 4096):
            pass
