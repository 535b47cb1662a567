"""Directories for this user alone, safe also where other users may write: this module creates or checks each of them.

A user who controls a directory controls what is started, read and trusted in it. So this module opens an existing
directory without following a link, and checks kind, owner and mode of what it opened.
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
"""Bytes; the size limit of Linux's ``sockaddr_un``."""
_PREFIX = "vastgpu-"
_MOST_IN_SOCKET_DIRECTORY = len(f"/{_PREFIX}12345678/") + 20
"""Longest path below the parent directory: the name of the socket's directory, and the socket's name."""


def state_directory() -> Path:
    """The directory for files that outlive a run: ``$XDG_STATE_HOME/pytest-vastgpu`` or its equivalent."""
    import platformdirs

    return platformdirs.user_state_path("pytest-vastgpu")


def runs_dir() -> Path:
    """The directory that holds one directory for each run, named by its id."""
    return state_directory() / "runs"


def private_directory(path: Path) -> Path:
    """Create a directory that the user named, with mode 0700, or use it if it exists and belongs to the user.

    An existing directory is closed to other users' reading. A link of the user's own is followed.

    :returns: The directory, without that link.
    :raises OSError: if it cannot be made, belongs to another user, or others may write to it; ``strerror`` says which.
    """
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid():
            path = Path(os.path.realpath(path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    """Whether the path is a directory, no link, that belongs to this user and is closed to all others."""
    try:
        with _opened(path) as directory:
            info = os.fstat(directory)
    except OSError:
        return False
    return info.st_uid == os.geteuid() and not stat.S_IMODE(info.st_mode) & 0o077


def shared_by_own_processes() -> Path | None:
    """``vastgpu-UID`` in the directory for temporary files: one directory for all processes of this user.

    :returns: None if the directory is not this user's alone, or cannot be made.
    :raises FileNotFoundError: if there is no directory for temporary files at all.
    """
    path = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.geteuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700)
    return path if is_private(path) else None


def fresh_directory(name: str, parent: Path | None = None) -> Path:
    """A new directory with an unpredictable name.

    :param name: Start of the name; in the temporary files of all users this package's prefix stands before it.
    :param parent: Where to make it; None: in the directory for temporary files.
    """
    return Path(tempfile.mkdtemp(prefix=f"{name}-" if parent else f"{_PREFIX}{name}-", dir=parent))


def socket_directory() -> Path:
    """A new directory for sockets, with a short path even if ``TMPDIR`` is long.

    It is made in ``XDG_RUNTIME_DIR`` if that is this user's alone, otherwise in a directory for temporary files.

    :raises OSError: if none of these can be used.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent")
    places = [runtime] if runtime.is_absolute() and is_private(runtime) else []
    places += [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 -- the directory made there is new
    for place in places:
        if len(os.fsencode(place)) + _MOST_IN_SOCKET_DIRECTORY <= LONGEST_SOCKET_PATH:
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    tried = ", ".join(map(str, places))
    raise OSError(errno.ENAMETOOLONG, f"no short directory for a socket can be made in any of {tried}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open the directory itself, so that a later change of its name has no effect."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)
