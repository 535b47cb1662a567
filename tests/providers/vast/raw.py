"""A socket server on loopback that answers each request with given bytes, whatever they are."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

Converse = Callable[[socket.socket], None]
PAUSE_S = 0.05


class RawServer:
    """Each connection has a thread, which reads one request after the other and answers it."""

    def __init__(self, converse: Converse) -> None:
        self.converse = converse
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.hung_up = threading.Event()
        """Set once a client has cut a connection on which an answer was still being sent."""
        self.asked = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while read_request(sock):
                self.asked += 1
                try:
                    self.converse(sock)
                except OSError:
                    self.hung_up.set()
                    raise


def read_request(sock: socket.socket) -> bytes:
    """The next request, with its body; empty where the client has hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    wanted = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < wanted:
        body += sock.recv(65536)
    return data


def says(answer: bytes, *, ends: bool = True) -> Converse:
    """Answers with these bytes, and hangs up where the answer has no other end."""

    def converse(sock: socket.socket) -> None:
        sock.sendall(answer)
        if ends:
            sock.shutdown(socket.SHUT_RDWR)

    return converse


def dribbles(before: bytes, piece: bytes = b" ", pause_s: float = PAUSE_S) -> Converse:
    """Sends a beginning, and then a piece again and again, for ever."""

    def converse(sock: socket.socket) -> None:
        sock.sendall(before)
        for each in repeat(piece):
            sock.sendall(each)
            threading.Event().wait(pause_s)

    return converse


@contextmanager
def raw_server(converse: Converse) -> Iterator[RawServer]:
    server = RawServer(converse)
    try:
        yield server
    finally:
        server.close()
