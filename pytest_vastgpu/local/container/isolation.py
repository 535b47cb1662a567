"""Isolation of instances: process ids, network, mounts, host name and System V objects of their own.

Root may make such namespaces. An ordinary user may if the system allows user namespaces. Otherwise an instance is a
plain process tree. Everything here runs in a single-threaded process between ``fork`` and ``exec``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from typing import NoReturn

# Linux's own numbers, as in <linux/sched.h>, <linux/mount.h>, <linux/prctl.h>, <linux/sockios.h>.
_NEW_USER = 0x10000000
_NEW_OTHERS = 0x20000000 | 0x40000000 | 0x00020000 | 0x04000000 | 0x08000000  # pid, net, mount, uts, ipc
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MS_BIND = 4096
_MS_PRIVATE_RECURSIVE = (1 << 18) | 16384
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

How = Literal["root", "user", "none"]


@dataclass(frozen=True)
class Isolation:
    """The isolation of instances on this system."""

    how: How
    """``root``: namespaces made with root's rights; ``user``: through a user namespace; ``none``: no isolation."""
    reason: str = ""
    """For ``none``: the system's message, and the consequence."""

    @property
    def isolated(self) -> bool:
        """Whether an instance has process ids, a network and mounts of its own."""
        return self.how != "none"


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def enter(how: How) -> None:
    """Give this process its own network and mounts, and its future children their own process ids.

    Afterwards the process cannot start threads: Linux does not allow them while a process's children belong to another
    process id namespace than itself.

    :raises OSError: if the system does not allow it.
    """
    if how == "none":
        return
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_OTHERS | (_NEW_USER if how == "user" else 0))
    if how == "user":
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _call("mount", b"none", b"/", None, _MS_PRIVATE_RECURSIVE, None)
    _bring_loopback_up()


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def mount_proc() -> None:
    """Mount a ``/proc`` with the process ids of this namespace. Call it in the first process of the namespace.

    :raises OSError: if the system hides parts of ``/proc``, and so does not allow another one.
    """
    _call("mount", b"proc", b"/proc", b"proc", _MS_NOSUID_NODEV_NOEXEC, None)


def bind(source: Path, target: Path) -> None:
    """Bind ``source`` over ``target``, within these mounts only."""
    _call("mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND, None)


def mount_tmpfs(target: Path, size_bytes: int) -> None:
    """Mount an empty file system in memory, of a fixed size, over ``target``, within these mounts only."""
    _call("mount", b"tmpfs", os.fsencode(target), b"tmpfs", 0, f"size={size_bytes}".encode())


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as its parent ends. Does nothing except on Linux.

    :param parent: The parent's process id. If the parent has ended already, this process is killed at once.
    """
    if sys.platform == "linux":
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() not in (parent, 0):  # 0: the parent is outside this process id namespace
            os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends. Does nothing except on Linux."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def probe() -> Isolation:
    """Find out, in child processes, which isolation works on this system."""
    if sys.platform != "linux":
        return Isolation("none", f"{sys.platform} has no namespaces: instances share its ports and processes")
    tried: list[str] = []
    ways: tuple[How, ...] = ("root", "user") if os.getuid() == 0 else ("user",)
    for how in ways:
        error = error_of(how)
        if not error:
            return Isolation(how)
        tried.append(error)
    return Isolation(
        "none", f"this system allows no namespaces ({'; '.join(tried)}): instances share its ports and processes"
    )


def error_of(how: How) -> str:
    """Try this isolation in a child process. Returns the system's error message; empty if it works."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _report(lambda: _enter_and_mount(how), writing)
    os.close(writing)
    with os.fdopen(reading) as answers:
        error = answers.read()
    os.waitpid(child, 0)
    return error


def _enter_and_mount(how: How) -> None:
    enter(how)
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        _report(mount_proc, writing)
    os.close(writing)
    with os.fdopen(reading) as answers:
        error = answers.read()
    os.waitpid(first, 0)
    if error:
        raise OSError(error)


def _report(action: Callable[[], None], writing: int) -> NoReturn:
    """Run ``action`` in a forked child, write its OSError to ``writing``, and end the child."""
    try:
        action()
    except OSError as error:
        os.write(writing, str(error).encode())
    finally:
        os._exit(0)
