"""The supervisor's RPC server: authenticates clients, and serves each connection in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from os import getuid
from typing import Any
from typing import Protocol

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.codec import NotDeclared
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import VastGpuError

STRANGERS = 16
"""Most connections accepted at once that have not sent the secret yet."""
INTRODUCTION_S = 5.0
"""How long each of them has to send the secret."""
ACCEPT_AGAIN_S = 0.1
"""Pause after a failed accept."""
_LONGEST_HELLO = 512
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """The test process that makes a call."""

    process: str
    """Name that the process has given itself."""
    gone: Callable[[], bool] = lambda: False
    """Whether it has hung up, and so does not wait for the answer."""


class RpcService(Protocol):
    """The service behind the server."""

    def session(self, caller: Caller) -> RunControl:
        """The object that answers the calls of one connection."""
        ...

    def supervisor(self) -> Supervisor:
        """The facts that the server sends to each process first."""
        ...

    def hung_up(self, process: str, *, control: bool) -> None:
        """A process has hung up or died.

        :param control: Whether it is the process that started the supervisor.
        """
        ...

    def events(self) -> int:
        """Number of events so far."""
        ...

    def attach(self, role: str, sock: socket.socket) -> None:
        """Take a connection on which the supervisor sends: ``events`` or ``hooks``. Returns when it ends."""
        ...


class RpcServer:
    """Accepts connections on a listening socket until it is closed.

    :param secret: Each client must send it first; nothing else that it sends is read before.
    """

    def __init__(
        self,
        listener: socket.socket,
        secret: str,
        host: RpcService,
        introduction_s: float = INTRODUCTION_S,
        largest: int = messages.LARGEST,
    ) -> None:
        self._introduction_s = introduction_s
        self._largest = largest
        self._listener = listener
        self._secret = secret.encode()
        self._host = host
        self._strangers = threading.BoundedSemaphore(STRANGERS)
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name="vastgpu-line", daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._closed.set()
        with contextlib.suppress(OSError):  # it was closed before
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _accept(self) -> None:
        while True:
            self._strangers.acquire()  # further clients wait in the listen queue
            try:
                self._admit(self._listener.accept()[0])
            except (OSError, RuntimeError):  # it is closed, or the system has no descriptor or thread left
                self._strangers.release()
                if self._closed.wait(ACCEPT_AGAIN_S):
                    return

    def _admit(self, sock: socket.socket) -> None:
        """Start the thread of a new connection; close it if another user connects.

        :raises RuntimeError: if no thread can be started.
        """
        if messages.peer_uid(sock) not in (getuid(), -1):
            sock.close()
            self._strangers.release()
            return
        sock.settimeout(None)  # despite socket.setdefaulttimeout(): a process may say nothing for long
        try:
            threading.Thread(target=self._serve, args=(sock,), name="vastgpu-line", daemon=True).start()
        except RuntimeError:
            sock.close()
            raise

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                hello = self._introduction(sock)
            finally:
                self._strangers.release()
            if hello is None:
                return
            role, process, control = str(hello.get("role")), str(hello.get("process")), hello.get("control") is True
            with contextlib.suppress(EOFError, OSError):  # the process is gone
                if role in {"control", "process"}:
                    self._attend(sock, process, control=control)
                elif role == "calls":
                    self._answer_all(sock, process, control=control)
                else:
                    self._host.attach(role, sock)

    def _introduction(self, sock: socket.socket) -> Mapping[str, Any] | None:
        """The first message of a client; None where it does not hold the secret."""
        try:
            hello = messages.receive(sock, _LONGEST_HELLO, within_s=self._introduction_s)
        except (EOFError, OSError, ValueError, RecursionError):
            return None
        said = hello.get("secret") if isinstance(hello, dict) else None
        known = isinstance(said, str) and secrets.compare_digest(said.encode("utf-8", "replace"), self._secret)
        return hello if known else None

    def _attend(self, sock: socket.socket, process: str, *, control: bool) -> None:
        """Wait until a process hangs up."""
        try:
            messages.send(sock, encode(self._host.supervisor()))
            messages.receive(sock)  # the process sends nothing; this returns at its end
        finally:
            self._host.hung_up(process, control=control)

    def _answer_all(self, sock: socket.socket, process: str, *, control: bool) -> None:
        # A client sends nothing while it waits for an answer: if there is something to read, it has hung up.
        caller = Caller(process, lambda: messages.readable(sock, 0))
        session = self._host.session(caller)
        allowed = rpc.calls_of(RunControl if control else Leases)
        while True:
            request = messages.receive(sock)
            # The number lets the client show the events that led to the answer first.
            answer = {**self._answer(session, allowed, request), "events": self._host.events()}
            try:
                messages.send(sock, answer, self._largest)
            except messages.TooLarge as error:
                told = rpc.encode_error(VastGpuError(f"the answer is too large: {error}"))
                messages.send(sock, {"error": told, "events": answer["events"]})

    def _answer(self, session: RunControl, allowed: Mapping[str, rpc.Call], request: Any) -> dict[str, Any]:
        try:
            call = allowed[request["call"]]
            return {"result": encode(getattr(session, call.name)(*call.arguments(request["arguments"])))}
        except NotDeclared as error:
            return {"error": rpc.encode_error(ConfigurationError(str(error)))}
        except (VastGpuError, Cancelled) as error:
            return {"error": rpc.encode_error(error)}
        except Exception as error:  # noqa: BLE001 - logged, and raised by the caller
            _log.exception("a call failed")
            return {"error": rpc.encode_error(error)}
