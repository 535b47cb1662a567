"""What is this machine's and every container has its own of: shared memory, temporary files, a name, settings.

Everything here is shown within an instance's own mounts, so it is seen by nobody else and gone with the instance.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path

from pytest_vastgpu.local.container import isolation

SETTINGS = Path("/etc/environment")
HOSTS = Path("/etc/hosts")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - an instance has its own
TEMPORARY = SHARED_MEMORY / "tmp"
FULL_DISK_BYTES = 1 << 20


def own_settings(directory: Path) -> Path | None:
    """An empty ``/etc/environment``, which start scripts on Vast write so that sessions see the container's variables.

    :param directory: The instance's disk.
    :returns: Where the file is; None where this machine has none.
    """
    if not SETTINGS.is_file():
        return None
    own = directory / "environment"
    own.touch()
    isolation.bind(own, SETTINGS)
    return own


def own_host_name(directory: Path, name: str) -> None:
    """As Docker does: also among the hosts, so that it leads here."""
    socket.sethostname(name)
    if HOSTS.is_file():
        own = directory / "hosts"
        own.write_text(f"{HOSTS.read_text()}\n127.0.0.1\t{name}\n")
        isolation.bind(own, HOSTS)


def own_temporary_files(directory: Path) -> dict[str, str]:
    """Shared memory and ``TMPDIR``: what a killed server leaves there goes with the instance.

    The files are on its disk; what leads to them is short, since a socket's whole path must fit into 107 bytes.
    ``/tmp`` itself stays this machine's: its user's programs and models may lie there.

    :returns: The variables that tell of it.
    """
    if not SHARED_MEMORY.is_dir():
        return {}
    machines = os.statvfs(SHARED_MEMORY)
    isolation.mount_tmpfs(SHARED_MEMORY, machines.f_blocks * machines.f_frsize)
    kept = directory / "tmp"
    for each in (kept, TEMPORARY):
        each.mkdir(exist_ok=True)
    isolation.bind(kept, TEMPORARY)
    return {"TMPDIR": str(TEMPORARY)}


def fill_disk(directory: Path, home: Path) -> None:
    """Leave no free space in the home."""
    full = directory / "full"
    shutil.copytree(home, full, symlinks=True, dirs_exist_ok=True)
    isolation.mount_tmpfs(home, FULL_DISK_BYTES)
    shutil.copytree(full, home, symlinks=True, dirs_exist_ok=True)
    with (home / ".filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"\0" * 4096):
            pass
