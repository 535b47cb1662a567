"""The line to the supervisor: one connection for each thread that asks, and one that says that this process lives."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from typing import TypeVar

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.fork_safety import keep_private_socket
from pytest_vastgpu.errors import SupervisorGone

T = TypeVar("T")
IDLE_S = 0.05
"""How often a thread that waits for an answer may show progress meanwhile."""
_Socket = socket.socket  # not what a test puts there later
_connect = socket.socket.connect
_settimeout = socket.socket.settimeout
_getpid = os.getpid
_getuid = os.getuid
_Lock = threading.Lock
_get_ident = threading.get_ident


class _Own:
    """What a thread keeps of the line. When the thread has ended, its connection waits for the next one that asks.

    :param unused: Where it waits.
    """

    def __init__(self, connection: socket.socket, owed: int, unused: deque[tuple[socket.socket, int]]) -> None:
        self.connection = connection
        self.owed = owed
        """The number of answers that will come and were not waited for."""
        self._unused = unused

    def __del__(self) -> None:
        self._unused.append((self.connection, self.owed))


class RpcClient:
    """Calls to a supervisor. Any thread may use it, and a child that was forked off as well: it has a line of its own.

    :param role: ``control`` in the process that started it, whose end is the run's; ``process`` in any other.
    :param idle: Called again and again while the thread that made the line waits for an answer.
    """

    def __init__(self, address: RpcAddress, role: str, idle: Callable[[], None] = lambda: None) -> None:
        self._address = address
        self._role = role
        self._idle = idle
        self._home = _get_ident()
        self._closed = False
        self._supervisor: Supervisor | None = None
        self._beginning: dict[int, threading.Lock] = {}
        self._begin()

    def _begin(self) -> None:
        self._tell_end: Callable[[], str] = lambda: ""
        self.await_events: Callable[[int], None] = lambda _: None
        """Waits a moment until that many events have come, where they come here."""
        self._asking = _Lock()
        self._open: set[socket.socket] = set()  # every connection of this process
        self._unused: deque[tuple[socket.socket, int]] = deque()
        self._name = f"{_getpid()}-{os.urandom(4).hex()}"
        self._local = threading.local()
        self._presence = self.connect(self._role)
        self._pid = _getpid()  # last: other threads go by it

    def told_of_its_end(self, tell: Callable[[], str]) -> None:
        """How the supervisor ended, where this process can say."""
        self._tell_end = tell

    def connect(self, role: str) -> socket.socket:
        """A new connection.

        :raises SupervisorGone: if no process listens any more.
        """
        sock = _Socket(socket.AF_UNIX)
        _settimeout(sock, None)  # whatever socket.setdefaulttimeout() says: answers take their time
        try:
            _connect(sock, self._address.path)
            if messages.peer_uid(sock) not in (_getuid(), -1):
                sock.close()
                raise SupervisorGone("another user listens where the supervisor should")
            hello = {"secret": self._address.secret, "role": role, "process": self._name}
            messages.send(sock, {**hello, "control": self._role == "control"})
        except OSError as error:
            sock.close()
            raise self._gone() from error
        self._open.add(sock)
        return keep_private_socket(sock)

    def calls(self, declaration: type[T]) -> T:
        """The calls of a protocol, as methods."""
        return rpc.remote(declaration, self._ask)

    def ask_later(self, name: str, *arguments: Any) -> None:
        """Send a call without waiting; an error of it is raised by the next call of this thread."""
        own = self._own()
        messages.send(own.connection, {"call": name, "arguments": [encode(each) for each in arguments]})
        own.owed += 1

    def _ask(self, name: str, arguments: list[Any]) -> Any:
        own = self._own()
        try:
            messages.send(own.connection, {"call": name, "arguments": arguments})
            for _ in range(own.owed):
                self._result(self._answer(own.connection))
            answer = self._answer(own.connection)
        except BaseException as error:  # also broken off in the middle: an answer that comes now belongs to no call
            self._discard()
            # A connection has no time limit: a TimeoutError comes from a signal handler of other code.
            if isinstance(error, (EOFError, OSError)) and not isinstance(error, TimeoutError):
                raise self._gone() from error
            raise
        own.owed = 0
        _ = self.supervisor  # while it can be asked
        return self._result(answer)

    def _answer(self, connection: socket.socket) -> Any:
        if _get_ident() == self._home:
            self._idle()
            while not messages.readable(connection, IDLE_S):
                self._idle()
        answer = messages.receive(connection)
        if _get_ident() == self._home:
            self.await_events(answer["events"])
            self._idle()
        return answer

    def _result(self, answer: Any) -> Any:
        if "error" in answer:
            raise rpc.decode_error(answer["error"])
        return answer["result"]

    def _own(self) -> _Own:
        if self._closed:
            raise self._gone()
        if _getpid() != self._pid:
            self._begin_in_child()
        found: _Own | None = getattr(self._local, "own", None)
        if found is None:
            found = self._local.own = _Own(*self._any_unused(), self._unused)
        return found

    def _begin_in_child(self) -> None:
        """Forked off: the parent's connections are the parent's."""
        with self._beginning.setdefault(_getpid(), _Lock()):  # no lock that the parent may have held
            if _getpid() != self._pid:  # no other thread was faster
                self._role, self._idle = "process", lambda: None  # what shows progress has threads and locks
                self._begin()

    def _any_unused(self) -> tuple[socket.socket, int]:
        with suppress(IndexError):
            while True:
                connection, owed = self._unused.pop()
                if connection.fileno() >= 0:  # it was not discarded
                    return connection, owed
        return self.connect("calls"), 0

    def _discard(self) -> None:
        found: _Own | None = self._local.__dict__.pop("own", None)
        if found is not None:
            self.hang_up(found.connection)

    @property
    def supervisor(self) -> Supervisor | None:
        """Who listens; None where it has not said so (yet)."""
        with self._asking, suppress(EOFError, OSError, ValueError):  # it has gone, or was closed with a fork
            if self._supervisor is None and messages.readable(self._presence, 0):  # it says so once
                self._supervisor = decode(Supervisor, messages.receive(self._presence))
        return self._supervisor

    def _gone(self) -> SupervisorGone:
        if self._closed:
            return SupervisorGone("the run is over, and everything was given back")
        known = self.supervisor if hasattr(self, "_presence") else None
        if known is None:
            return SupervisorGone("the run ended before anything was rented" + self._tell_end())
        return SupervisorGone(
            f"the supervisor (process {known.pid}), which owns what this run has rented, is gone{self._tell_end()}; "
            f"its guard gives back what is left and `vastgpu ls` shows it (a local market of this run ends by itself); "
            f"{known.log} says more"
        )

    def close(self) -> None:
        """Hang up. In the process that started the supervisor this is the end of the run."""
        closed, self._closed = self._closed, True  # first, so that threads that wait are told why
        if _getpid() == self._pid and not closed:
            for sock in list(self._open):
                self.hang_up(sock)

    def hang_up(self, sock: socket.socket) -> None:
        """Close a connection."""
        self._open.discard(sock)
        with suppress(OSError):  # its thread may be waiting for something, or a test has closed it
            sock.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            sock.close()
