"""What this system allows a process to have for itself, and how to get it.

An instance wants its own process ids, network, mounts, host name and System V objects. Root may simply have them; an
ordinary user may where the system allows user namespaces; elsewhere an instance is a plain process tree.
Everything here runs in a single-threaded process between ``fork`` and ``exec``.
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
    """How far instances are apart on this system."""

    how: How
    """``root``: namespaces made with root's rights; ``user``: through a user namespace; ``none``: not at all."""
    reason: str = ""
    """For ``none``: what the system said, and what it means."""

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
    """Gives this process a network and mounts of its own, and its future children process ids of their own.

    From here on the process cannot start threads: Linux refuses them while a process's children belong to another
    process id namespace than itself.

    :raises OSError: The system does not allow it.
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
    """Shows the process ids of this process's own namespace; to be called by its first process.

    :raises OSError: The system hides parts of ``/proc`` and so allows no other one.
    """
    _call("mount", b"proc", b"/proc", b"proc", _MS_NOSUID_NODEV_NOEXEC, None)


def bind(source: Path, target: Path) -> None:
    """Shows ``source`` where ``target`` is, within these mounts only."""
    _call("mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND, None)


def mount_tmpfs(target: Path, size_bytes: int) -> None:
    """Puts an empty file system in memory, of a fixed size, over ``target``, within these mounts only."""
    _call("mount", b"tmpfs", os.fsencode(target), b"tmpfs", 0, f"size={size_bytes}".encode())


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process as soon as ``parent``, its parent, is gone. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() not in (parent, 0):  # 0: the parent lives outside our process id namespace
            os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def probe() -> Isolation:
    """Tries, in a child process, which isolation works here."""
    if sys.platform != "linux":
        return Isolation("none", f"{sys.platform} has no namespaces: instances share its ports and processes")
    tried: list[str] = []
    ways: tuple[How, ...] = ("root", "user") if os.getuid() == 0 else ("user",)
    for how in ways:
        complaint = complaint_about(how)
        if not complaint:
            return Isolation(how)
        tried.append(complaint)
    return Isolation(
        "none", f"this system allows no namespaces ({'; '.join(tried)}): instances share its ports and processes"
    )


def complaint_about(how: How) -> str:
    """What the system says when a child process tries this isolation; empty where it works."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _report(lambda: _enter_and_mount(how), writing)
    os.close(writing)
    with os.fdopen(reading) as answers:
        complaint = answers.read()
    os.waitpid(child, 0)
    return complaint


def _enter_and_mount(how: How) -> None:
    enter(how)
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        _report(mount_proc, writing)
    os.close(writing)
    with os.fdopen(reading) as answers:
        complaint = answers.read()
    os.waitpid(first, 0)
    if complaint:
        raise OSError(complaint)


def _report(action: Callable[[], None], writing: int) -> NoReturn:
    """Runs ``action`` in a forked child and ends it, writing down an OSError."""
    try:
        action()
    except OSError as error:
        os.write(writing, str(error).encode())
    finally:
        os._exit(0)
