"""Exchanges one HTTP request and its answer within one time limit, whatever the other side does.

The time limits of a socket end silence only: a server that sends one byte a second never exceeds them, and none of them
covers the look-up of a name. So each exchange has a thread of its own. Its caller waits until the limit at most, and
not once the run is called off; then it leaves the exchange, which may send nothing more, and whose connection is cut.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import Protocol

import httpx

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.providers.vast import bounded_body

_MOST_CONNECT_S = 10.0
"""For one address: a market that can be reached takes a fraction of a second."""


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    redirects: bool
    data: bytes


class ExchangeFailed(Exception):
    """There is no whole answer.

    :param cause: What went wrong; None: it was not over within the limit.
    :param sent: Whether the request may have reached the other side.
    :param status: The HTTP status, where the answer came that far.
    """

    def __init__(self, cause: BaseException | None, *, sent: bool = False, status: int | None = None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.sent = sent
        self.status = status


class CancelledOnItsWay(Cancelled):
    """The run is ending, and the request may have reached the other side."""


class _Left(Exception):
    """The caller does not wait for this exchange any more."""


class _Line:
    """A client with one connection at most, for one exchange at a time."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.stream: Any = None
        """The newest connection, a ``NetworkStream`` of httpcore; closed where the next exchange needs a new one."""
        self._handshaking: socket.socket | None = None
        """A copy of the connection's socket during the TLS handshake, in which the stream has none."""

    def begin_handshake(self) -> None:
        plain = self._socket()
        if plain is not None and not isinstance(plain, ssl.SSLSocket):
            self._handshaking = plain.dup()

    def end_handshake(self) -> None:
        copy, self._handshaking = self._handshaking, None
        if copy is not None:
            copy.close()

    def cut(self) -> None:
        """Cut the connection, which ends every wait for it."""
        for sock in (self._socket(), self._handshaking):
            if sock is not None:
                with contextlib.suppress(OSError):  # it has ended already
                    # Not the method of an SSL socket, which another thread may be reading.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self.end_handshake()
        self.client.close()

    def _socket(self) -> socket.socket | None:
        found = self.stream and self.stream.get_extra_info("socket")
        return found if isinstance(found, socket.socket) else None


class _Exchange:
    def __init__(
        self, line: _Line, make: Callable[[httpx.Client], httpx.Request], auth: httpx.Auth | None, *, cut: bool
    ) -> None:
        self._line = line
        self._make = make
        self._auth = auth
        self._cut = cut
        self._lock = threading.Lock()
        """Its holder decides whether the request may be sent."""
        self._left = False
        self.sent = False
        self.status: int | None = None
        self.answer: RawAnswer | None = None
        self.error: BaseException | None = None
        self.over = threading.Event()

    def run(self) -> None:
        """Send the request and read the answer."""
        try:
            self.answer = self._converse()
        except BaseException as error:  # noqa: BLE001 - raised in the caller
            self.error = error
        finally:
            with self._lock:
                left = self._left
                self.over.set()
            if left:
                self._line.close()

    def leave(self) -> bool:
        """Wait for it no longer; returns whether it had ended before."""
        with self._lock:
            if self.over.is_set():
                return True
            self._left = True
            self._line.cut()
        return False

    def _converse(self) -> RawAnswer:
        request = self._make(self._line.client)
        request.extensions = {**request.extensions, "trace": self._trace}
        response = self._line.client.send(request, auth=self._auth, stream=True)
        try:
            self.status = response.status_code
            encoding = response.headers.get("Content-Encoding", "")
            data = bounded_body.read(response.iter_raw(), encoding, cut=self._cut)
        finally:
            response.close()
        return RawAnswer(response.status_code, response.headers, response.has_redirect_location, data)

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Called by httpcore at every step of the exchange."""
        step = name.partition(".")[2]
        with self._lock:
            if step in {"connect_tcp.complete", "start_tls.complete"}:
                self._line.stream = info["return_value"]
            if step == "start_tls.started":
                self._line.begin_handshake()
            elif step in {"start_tls.complete", "start_tls.failed"}:
                self._line.end_handshake()
            if self._left:
                if self._line.stream is not None:
                    self._line.stream.close()
                raise _Left
            if step == "send_request_headers.started":
                self.sent = True


class ClientFactory(Protocol):
    """Makes an HTTP client."""

    def __call__(self, timeout: httpx.Timeout, *, elsewhere: bool) -> httpx.Client:
        """:param elsewhere: Whether it is for one request to another server."""
        ...


class Exchanger:
    """Makes exchanges. Thread-safe.

    :param limit_s: For one exchange, from the look-up of the name to the last byte.
    :param cancel: When it is cancelled, waiting exchanges are left, and no other is begun.
    """

    def __init__(self, client: ClientFactory, limit_s: float, cancel: CancelToken) -> None:
        self._limit_s = limit_s
        self._cancel = cancel
        self._client = client
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._closed = False

    def exchange(
        self,
        make: Callable[[httpx.Client], httpx.Request],
        *,
        auth: httpx.Auth | None = None,
        cut: bool = False,
        elsewhere: bool = False,
        insist_s: float = 0.0,
    ) -> RawAnswer:
        """Make one exchange.

        :param make: Makes the request.
        :param cut: Return the beginning of an answer that is too large.
        :param elsewhere: Whether it is with another server, so that its connection is of no further use.
        :param insist_s: Seconds for which a cancelled exchange is waited for all the same, once it has been sent.
        :raises ExchangeFailed: there is no whole answer within the limit, for whatever reason.
        :raises Cancelled: the run is ending; :class:`CancelledOnItsWay` where the request may have been sent.
        """
        self._cancel.check()
        line = self._line(elsewhere=elsewhere)
        exchange = _Exchange(line, make, auth, cut=cut)

        def run() -> None:
            exchange.run()
            self._cancel.nudge()

        try:
            threading.Thread(target=run, name="vastgpu-market", daemon=True).start()
        except RuntimeError as error:
            line.close()
            raise ExchangeFailed(error) from error
        deadline = Deadline.after(self._limit_s)
        try:
            with contextlib.suppress(Cancelled):
                self._cancel.wait(self._limit_s, exchange.over.is_set)
            if self._cancel.cancelled and exchange.sent:
                exchange.over.wait(min(insist_s, deadline.remaining_s))
        finally:
            ended = exchange.leave()
        if not ended:
            if self._cancel.cancelled:
                raise CancelledOnItsWay if exchange.sent else Cancelled
            raise ExchangeFailed(None, sent=exchange.sent, status=exchange.status)
        if exchange.answer is None:
            line.close()
            raise ExchangeFailed(exchange.error, sent=exchange.sent, status=exchange.status) from exchange.error
        self._give_back(line, elsewhere=elsewhere)
        return exchange.answer

    def close(self) -> None:
        """Close all connections that are not in use; those in use when their exchange ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    def _line(self, *, elsewhere: bool) -> _Line:
        with self._lock:
            if self._closed:
                raise ExchangeFailed(RuntimeError("the client is closed"))
            if self._idle and not elsewhere:
                return self._idle.pop()
        # Of the client's own limits only that of one address comes first. An exchange that is left ends by the cut.
        timeout = httpx.Timeout(2 * self._limit_s, connect=min(2 * self._limit_s, _MOST_CONNECT_S))
        return _Line(self._client(timeout, elsewhere=elsewhere))

    def _give_back(self, line: _Line, *, elsewhere: bool) -> None:
        with self._lock:
            if not (elsewhere or self._closed):
                self._idle.append(line)
                return
        line.close()
