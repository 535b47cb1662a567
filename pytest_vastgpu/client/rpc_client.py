"""The client side of the connection to the supervisor: a socket for each calling thread, and one to show presence."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from typing import TypeVar

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.calls import SLOW
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.fork_safety import keep_private_socket
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import SupervisorGone

T = TypeVar("T")
IDLE_S = 0.05
"""Seconds between two displays of progress while a thread waits for an answer."""
_Socket = socket.socket  # bound now: a test may replace it later
_connect = socket.socket.connect
_settimeout = socket.socket.settimeout
INTRODUCTION_S = 1.0
"""For the rest of the message in which the supervisor introduces itself."""
_monotonic = time.monotonic
_getpid = os.getpid
_getuid = os.getuid
_Lock = threading.Lock
_get_ident = threading.get_ident


class _Own:
    """A thread's connection. When the thread has ended, its connection waits for the next thread that needs one.

    :param unused: The queue in which connections wait.
    """

    def __init__(self, connection: socket.socket, owed: int, unused: deque[tuple[socket.socket, int]]) -> None:
        self.connection = connection
        self.owed = owed
        """Number of answers that will still arrive and for which the thread does not wait."""
        self._unused = unused

    def __del__(self) -> None:
        self._unused.append((self.connection, self.owed))


class RpcClient:
    """Calls to a supervisor. Any thread may use it, and so may a forked child: it gets connections of its own.

    :param role: ``control`` in the process that started the supervisor, and whose end ends the run; ``process`` in any
        other.
    :param idle: Called repeatedly while the thread that made this object waits for an answer; see :meth:`move_home`.
    :param answers_s: Limit for the answer to a call that is not one of :data:`~pytest_vastgpu.client.calls.SLOW`.
    """

    def __init__(
        self,
        address: RpcAddress,
        role: str,
        idle: Callable[[], None] = lambda: None,
        answers_s: float = Timeouts.answers_s,
    ) -> None:
        self._address = address
        self._role = role
        self._idle = idle
        self._answers_s = answers_s
        self._home = _get_ident()
        self._closed = False
        self._supervisor: Supervisor | None = None
        self._beginning: dict[int, threading.Lock] = {}
        self._begin()

    def _begin(self) -> None:
        self._tell_end: Callable[[], str] = lambda: ""
        self.await_events: Callable[[int], None] = lambda _: None
        """Waits a moment until that many events have arrived, in the process that receives events."""
        self._asking = _Lock()
        self._open: set[socket.socket] = set()  # every connection of this process
        self._unused: deque[tuple[socket.socket, int]] = deque()
        self._name = f"{_getpid()}-{os.urandom(4).hex()}"
        self._local = threading.local()
        self._presence = self.connect(self._role)
        self._pid = _getpid()  # last: other threads check it first

    def told_of_its_end(self, tell: Callable[[], str]) -> None:
        """Set the function that says how the supervisor ended, in a process that knows it."""
        self._tell_end = tell

    def connect(self, role: str) -> socket.socket:
        """Open a new connection.

        :raises SupervisorGone: if no process listens any more.
        """
        sock = keep_private_socket(_Socket(socket.AF_UNIX))  # not later: another thread may fork at any time
        _settimeout(sock, None)  # despite socket.setdefaulttimeout(): answers may take long
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
        return sock

    def move_home(self) -> None:
        """Have the calling thread be the one that calls ``idle`` while it waits."""
        self._home = _get_ident()

    def calls(self, declaration: type[T]) -> T:
        """The calls of a protocol, as methods."""
        return rpc.remote(declaration, self._ask)

    def ask_later(self, name: str, *arguments: Any) -> None:
        """Send a call without waiting; this thread's next call raises its error."""
        own = self._own()
        messages.send(own.connection, {"call": name, "arguments": [encode(each) for each in arguments]})
        own.owed += 1

    def _ask(self, name: str, arguments: list[Any]) -> Any:
        __tracebackhide__ = True
        own = self._own()
        ends = None if name in SLOW else _monotonic() + self._answers_s
        try:
            messages.send(own.connection, {"call": name, "arguments": arguments})
            for _ in range(own.owed):
                self._result(self._answer(own.connection, ends))
            answer = self._answer(own.connection, ends)
        except messages.Late:
            self._discard()
            raise SupervisorGone(self._silent()) from None
        except BaseException as error:  # also when interrupted: an answer that arrives now belongs to no call
            self._discard()
            # A connection has no time limit: a TimeoutError comes from a signal handler of other code.
            if isinstance(error, (EOFError, OSError)) and not isinstance(error, TimeoutError):
                raise self._gone() from error
            raise
        own.owed = 0
        _ = self.supervisor  # read it while the supervisor can still answer
        return self._result(answer)

    def _answer(self, connection: socket.socket, ends: float | None) -> Any:
        """The next answer.

        :param ends: On the monotonic clock; None: no limit. Ctrl-C ends the wait of the main thread, and :meth:`close`
            that of any other.
        """
        if _get_ident() == self._home:
            self._idle()
            while not messages.readable(connection, IDLE_S):
                if ends is not None and _monotonic() > ends:
                    raise messages.Late
                self._idle()
        answer = messages.receive(connection, within_s=None if ends is None else max(0.0, ends - _monotonic()))
        if _get_ident() == self._home:
            self.await_events(answer["events"])
            self._idle()
        return answer

    def _result(self, answer: Any) -> Any:
        __tracebackhide__ = True
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
        """Start anew in a forked child: the parent's connections belong to the parent."""
        with self._beginning.setdefault(_getpid(), _Lock()):  # a new lock, because the parent may have held the old one
            if _getpid() != self._pid:  # no other thread has done it
                self._role, self._idle = "process", lambda: None  # showing progress needs threads and locks
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
        """The supervisor, as it introduced itself; None before that."""
        with self._asking, suppress(EOFError, OSError, ValueError):  # it has gone, or a fork closed the connection
            if self._supervisor is None and messages.readable(self._presence, 0):  # it introduces itself once
                told = messages.receive(self._presence, within_s=INTRODUCTION_S)
                self._supervisor = decode(Supervisor, told)
        return self._supervisor

    def _silent(self) -> str:
        known = self.supervisor
        who = f"the supervisor (process {known.pid})" if known else "the supervisor"
        return f"{who}, which owns what this run has rented, has not answered for {self._answers_s:g} s: is it stopped?"

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
        """Close all connections. In the process that started the supervisor this ends the run."""
        closed, self._closed = self._closed, True  # first, so that waiting threads learn the reason
        if _getpid() == self._pid and not closed:
            for sock in list(self._open):
                self.hang_up(sock)

    def hang_up(self, sock: socket.socket) -> None:
        """Close a connection."""
        self._open.discard(sock)
        with suppress(OSError):  # its thread may be waiting on it, or a test has closed it
            sock.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            sock.close()
