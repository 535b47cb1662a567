"""Forwards a port on this machine's loopback to a port on the instance's loopback, over the SSH connection.

Each client gets two threads, one per direction: a single thread that blocks in one direction could deadlock where both
sides send at the same time. The tunnel passes on the end of each direction separately, and resets a client whose
connection was cut short, so that the client never takes half an answer for a whole one.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from pytest_vastgpu.ssh.execution import BROKEN
from pytest_vastgpu.ssh.execution import LEAVE_S
from pytest_vastgpu.ssh.execution import close

if TYPE_CHECKING:
    from collections.abc import Callable

    import paramiko

    from pytest_vastgpu.ssh.connection import SshConnection

_CHUNK = 1 << 16
_OPEN_LIMIT_S = 10.0
_BACKLOG = 128
_SEND_TICK = struct.pack("ll", 0, 200_000)
"""As a ``timeval``: longest time that a client that does not read blocks us between checks."""
_RESET = struct.pack("ii", 1, 0)
"""As a ``linger``: closing a socket with a linger time of zero sends a reset instead of a regular end."""

_log = logging.getLogger(__name__)


class Tunnel:
    """Listens from construction until :meth:`close`.

    Without a connection to the instance, it accepts clients and resets them at once. Once there is a connection again,
    the same local port works again.
    """

    def __init__(self, connection: Callable[[], SshConnection | None], remote_port: int) -> None:
        """:param connection: Called for each client; returns the present connection."""
        self._connection = connection
        self._remote_port = remote_port
        self._lock = threading.Lock()
        self._relays: set[_Relay] = set()
        self.unanswered = 0
        """See :class:`~pytest_vastgpu.ssh.base.Forward`."""
        self.hung_up = 0
        """The same."""
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self.local_port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="vastgpu-tunnel", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """URL of an HTTP server at the other end, from this machine."""
        return f"http://127.0.0.1:{self.local_port}"

    def answers(self) -> bool:
        """See :class:`~pytest_vastgpu.ssh.base.Forward`."""
        channel = self._open()
        if channel is not None:
            close(channel)
        return channel is not None

    def _accept(self) -> None:
        # They are closed here: this thread would wait for ever on what another one closes.
        with self._listener, self._wake_receiver, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_receiver, selectors.EVENT_READ)
            while not self._closed:
                selector.select()
                try:
                    client, _ = self._listener.accept()
                except BlockingIOError:
                    continue  # woken to close, or the client is gone
                except OSError as error:
                    # For example, no descriptor is left. The client stays queued, so a pause prevents a busy loop.
                    _log.warning("tunnel on port %d cannot accept: %s", self.local_port, error)
                    self._wake_receiver.settimeout(0.1)
                    with contextlib.suppress(TimeoutError):
                        self._wake_receiver.recv(1)
                    continue
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        client.setblocking(True)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TICK)
        relay = _Relay(client, self._open, self._no_answer, self._hung_up, self._forget)
        with self._lock:
            self._relays.add(relay)
        relay.thread.start()

    def _open(self) -> paramiko.Channel | None:
        connection = self._connection()
        if connection is None or not connection.alive:
            return None
        try:
            return connection.forward(self._remote_port, _OPEN_LIMIT_S)
        except BROKEN as error:
            _log.debug("tunnel on port %d: port %d: %s", self.local_port, self._remote_port, error)
            return None

    def _no_answer(self) -> None:
        with self._lock:
            self.unanswered += 1

    def _hung_up(self) -> None:
        with self._lock:
            self.hung_up += 1

    def _forget(self, relay: _Relay) -> None:
        with self._lock:
            self._relays.discard(relay)

    def close(self) -> None:
        """Stop listening, reset all clients and wait a little until every thread is gone. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        ends = time.monotonic() + LEAVE_S
        self._wake_sender.send(b"x")
        self._thread.join(LEAVE_S)
        self._wake_sender.close()
        with self._lock:
            relays = list(self._relays)
        for relay in relays:
            relay.cut()
        for relay in relays:
            relay.thread.join(max(0.0, ends - time.monotonic()))


class _Relay:
    """One client's conversation with the server on the instance."""

    def __init__(
        self,
        client: socket.socket,
        open_channel: Callable[[], paramiko.Channel | None],
        on_no_answer: Callable[[], None],
        on_hang_up: Callable[[], None],
        on_end: Callable[[_Relay], None],
    ) -> None:
        self._client = client
        self._open_channel = open_channel
        self._on_no_answer = on_no_answer
        self._on_hang_up = on_hang_up
        self._on_end = on_end
        self._lock = threading.Lock()
        self._channel: paramiko.Channel | None = None
        self._whole = False
        """Whether both sides have ended their direction regularly."""
        self._cut = False
        self._asked = False
        """Whether the client waits for an answer: it was the last to send something."""
        self._client_ended = False
        """Whether the client has ended its direction."""
        self.thread = threading.Thread(target=self._work, name="vastgpu-tunnel-client", daemon=True)

    def _work(self) -> None:
        channel = self._open_channel()
        try:
            with self._lock:
                self._channel = channel
            if channel is None:
                self._on_no_answer()
            elif not self._cut:
                self._converse(channel)
        finally:
            if channel is not None:
                close(channel)
            if not self._whole:
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._client.close()
            self._on_end(self)

    def _converse(self, channel: paramiko.Channel) -> None:
        upward = threading.Thread(target=self._send, args=(channel,), name="vastgpu-tunnel-client-up", daemon=True)
        upward.start()
        try:
            while data := channel.recv(_CHUNK):
                self._asked = False
                self._answer(data)
            # Before the client learns of it:
            if self._asked and not self._cut:
                self._on_no_answer()
            if not (self._client_ended or self._cut):
                self._on_hang_up()
            # A regular end by the server, not a broken or cut connection.
            self._whole = bool(channel.eof_received) and not self._cut
            if self._whole:
                self._client.shutdown(socket.SHUT_WR)
        except BROKEN:
            self._whole = False  # the client is gone, or the connection broke
        if channel.closed or not self._whole:
            self._hang_up(channel)
        upward.join()

    def _answer(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._client.send(left) :]
            except BlockingIOError:
                if self._cut:
                    raise

    def _send(self, channel: paramiko.Channel) -> None:
        """Copy from client to server, until the client ends its direction."""
        try:
            while data := self._client.recv(_CHUNK):
                self._asked = True
                channel.sendall(data)
            self._asked = False  # it no longer waits
            self._client_ended = True
            channel.shutdown_write()
        except BROKEN:
            self._hang_up(channel)

    def _hang_up(self, channel: paramiko.Channel) -> None:
        """End both directions."""
        close(channel)
        with contextlib.suppress(OSError):  # the client has hung up already
            self._client.shutdown(socket.SHUT_RD)

    def cut(self) -> None:
        """End the client's connection at once."""
        with self._lock:
            self._cut = True
            channel = self._channel
        if channel is not None:
            self._hang_up(channel)
