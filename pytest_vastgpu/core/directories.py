"""Directories for this user alone, also where others may write: each is made by us or checked, none is adopted.

Whoever controls a directory controls what is started, read and trusted in it. So what is found is opened without
following a link, and what was opened is asked for its kind, its owner and its mode.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

LONGEST_SOCKET_PATH = 107
"""Bytes; what Linux's ``sockaddr_un`` holds."""
_PREFIX = "vastgpu-"
_MOST_IN_SOCKET_DIRECTORY = len(f"/{_PREFIX}12345678/") + 20
"""What comes after the directory that a socket's own is made in: the name of that one, and the socket's."""


def state_directory() -> Path:
    """Where runs leave what outlives them: ``$XDG_STATE_HOME/pytest-vastgpu`` or its like."""
    import platformdirs

    return platformdirs.user_state_path("pytest-vastgpu")


def private_directory(path: Path) -> Path:
    """Make a directory that the user named, with mode 0700, or take over one that is the user's already.

    What others could read of it is closed to them. A link of the user's own is followed.

    :returns: The directory, without that link.
    :raises OSError: if it cannot be made, is somebody else's, or others may write to it; ``strerror`` says what is so.
    """
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid():
            path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    with _opened(path) as directory:
        info = os.fstat(directory)
        if info.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"it belongs to user {info.st_uid}, not to you", str(path))
        if info.st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "everybody may write to it: chmod 700 it if it is yours", str(path))
        if stat.S_IMODE(info.st_mode) & 0o077:
            os.fchmod(directory, 0o700)
    return path


def is_private(path: Path) -> bool:
    """Whether it is a directory, no link, of this user, and closed to all others."""
    try:
        with _opened(path) as directory:
            info = os.fstat(directory)
    except OSError:
        return False
    return info.st_uid == os.geteuid() and not stat.S_IMODE(info.st_mode) & 0o077


def shared_by_own_processes() -> Path | None:
    """``vastgpu-UID`` among the temporary files: one for all processes of this user.

    :returns: None where it is not this user's alone, or cannot be made.
    :raises FileNotFoundError: if there is no place for temporary files at all.
    """
    path = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.geteuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700)
    return path if is_private(path) else None


def fresh_directory(name: str, parent: Path | None = None) -> Path:
    """A new directory with a name that nobody could foresee.

    :param name: What its name begins with, after our own prefix where it lies among everybody's temporary files.
    :param parent: Where to make it; None: among the temporary files.
    """
    return Path(tempfile.mkdtemp(prefix=f"{name}-" if parent else f"{_PREFIX}{name}-", dir=parent))


def socket_directory() -> Path:
    """A fresh directory for sockets: its path is short, however long ``TMPDIR`` is.

    It is made in ``XDG_RUNTIME_DIR`` where that is this user's alone, else where everybody's temporary files are.

    :raises OSError: if none of these can be used.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent")
    places = [runtime] if runtime.is_absolute() and is_private(runtime) else []
    places += [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 -- what is made there is fresh
    for place in places:
        if len(os.fsencode(place)) + _MOST_IN_SOCKET_DIRECTORY <= LONGEST_SOCKET_PATH:
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    tried = ", ".join(map(str, places))
    raise OSError(errno.ENAMETOOLONG, f"no short directory for a socket can be made in any of {tried}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A directory itself, whatever its name leads to a moment later."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)
