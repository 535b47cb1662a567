"""Lets later runs join a supervisor that outlives its run. See :mod:`pytest_vastgpu.client.warm`."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from pytest_vastgpu.client import warm
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.codec import NotDeclared
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.version import version
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.settings import OPTIONS
from pytest_vastgpu.settings import Settings

ASKED_WITHIN_S = 5.0
"""How long a process that connects has to say what it wants."""
OWN = frozenset({"budget", "on_infra_failure", "reuse"})
"""Options in which the runs of one supervisor may differ."""
_log = logging.getLogger(__name__)


class Host(Protocol):
    """The supervisor, as the door sees it."""

    def joins(self, opening: Opening, listener: socket.socket, pid: int) -> None:
        """Serve a later run, on this socket and from now on.

        :param pid: The process that runs pytest.
        :raises VastGpuError: it cannot.
        :raises Cancelled: it is ending.
        """
        ...

    def warm(self) -> list[Warm]:
        """The instances that wait for the next run."""
        ...

    def end_unless_used(self) -> list[str]:
        """Request the end, unless there are runs; returns their ids."""
        ...

    def await_end(self) -> list[str]:
        """Wait until everything is given back; returns what could not be destroyed."""
        ...


class Door:
    """The socket at which later runs ask to join.

    :param opening: What the first run has sent.
    :param environ: The supervisor's environment, secrets included.
    """

    def __init__(self, opening: Opening, environ: Mapping[str, str], host: Host) -> None:
        self._opening = opening
        self._environ = {name: environ.get(name, "") for name in warm.SENT}
        self._host = host
        self._listener = Listener()
        self._answering: list[threading.Thread] = []
        address = self._listener.address
        settings = opening.settings
        self._known = warm.WarmSupervisor(
            address.path,
            address.secret,
            os.getpid(),
            version(),
            settings.url,
            warm.account_at(settings.url, environ),
            opening.project,
            opening.run,
            time.time(),
        )
        threading.Thread(target=self._accept, name="vastgpu-door", daemon=True).start()

    def publish(self) -> str:
        """Write the file by which later runs find it; returns why that was not possible, for people."""
        try:
            if warm.write(self._known):
                return ""
        except OSError as error:
            return f"nothing is kept warm: {self._known.file} cannot be written ({error.strerror})"
        return (
            "nothing of this run is kept warm: another one, which cannot be shared, keeps instances of this project "
            "warm (`vastgpu down` ends it)"
        )

    @property
    def is_found(self) -> bool:
        """Whether later runs and ``vastgpu down`` find this supervisor: its file may be removed, or another one's."""
        return warm.read(self._known.file) == self._known

    def close(self) -> None:
        """Let no more runs in."""
        with contextlib.suppress(OSError):
            warm.remove(self._known)
        with contextlib.suppress(OSError):  # it was closed before
            self._listener.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.remove()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.socket.accept()[0]
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), name="vastgpu-door", daemon=True)
            self._answering = [each for each in self._answering if each.is_alive()] + [thread]
            thread.start()

    def answered(self, within_s: float) -> None:
        """Wait until those who wait for the end know of it."""
        for thread in list(self._answering):
            thread.join(within_s)

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(EOFError, OSError, ValueError):
            if messages.peer_uid(sock) not in (os.getuid(), -1):
                return
            hello = messages.receive(sock, 512, within_s=ASKED_WITHIN_S)
            said = hello.get("secret") if isinstance(hello, dict) else None
            if not secrets.compare_digest(str(said).encode("utf-8", "replace"), self._known.secret.encode()):
                return
            if hello.get("ask") == "join":
                messages.send(sock, {"refused": self._join(sock)})
            elif hello.get("ask") == "end":
                messages.send(sock, self._end())
            else:
                messages.send(sock, {"alive": True, "warm": encode(self._host.warm())})

    def _join(self, sock: socket.socket) -> str:
        """Let a run in; returns why not, for people."""
        told, environ = messages.receive(sock, within_s=ASKED_WITHIN_S)
        if not messages.readable(sock, ASKED_WITHIN_S):
            raise messages.Late
        _, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        if not descriptors:
            raise EOFError
        listener = socket.socket(fileno=descriptors[0])
        try:
            opening: Opening = decode(Opening, told)
            refused = self._differs(opening.settings, environ)
            if not refused:
                # A run that has waited too long uses its socket for another supervisor: it must not have two.
                messages.send(sock, {"refused": ""})
                messages.receive(sock, within_s=ASKED_WITHIN_S)
                self._host.joins(opening, listener, messages.peer_pid(sock))
                return ""
        except (VastGpuError, NotDeclared) as problem:
            refused = str(problem)
        except Cancelled:
            refused = "it is about to end"
        except (EOFError, OSError):
            listener.close()
            raise
        listener.close()
        return refused

    def _differs(self, settings: Settings, environ: Mapping[str, str]) -> str:
        """What a run has that does not fit, for people; empty if it fits."""
        if names := [name for name in warm.SENT if environ.get(name, "") != self._environ[name]]:
            return f"it has another {names[0]}"
        mine = self._opening.settings
        for option in OPTIONS:
            theirs, ours = (option.show(getattr(each, option.field)) for each in (settings, mine))
            if option.field not in OWN and theirs != ours:
                return f"it has {option.flag}={ours}, and this run {theirs}"
        return ""

    def _end(self) -> dict[str, Any]:
        if runs := self._host.end_unless_used():
            return {"refused": f"run {runs[0]} uses it: end that first"}
        return {"problems": self._host.await_end()}
