"""A server for tests of what asks servers: it answers as the test says, on a port of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Message
    text: str


class Asked(BaseHTTPRequestHandler):
    """One connection; ``answer`` of the server says what happens to each request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.asked.append(Request(self.command, self.path, self.headers, text))
        with contextlib.suppress(ConnectionError):
            self.server.answer(self)

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: it would be in the test's output."""

    def reply(self, body: str = "", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def stream(self, events: Iterable[str], *, ended: bool = True) -> None:
        """Server-sent events, each in a chunk; not ``ended``: the connection breaks off after them."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(f"{len(event.encode()):x}\r\n".encode() + event.encode() + b"\r\n")
        if ended:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Asked], None]) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answer = answer
        self.asked: list[Request] = []
        self.connections = 0

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]
        self.connections += 1
        return super().get_request()

    @property
    def port(self) -> int:
        return self.server_address[1]


@contextlib.contextmanager
def asked(answer: Callable[[Asked], None]) -> Iterator[Server]:
    """A server that answers so, until the end of the block."""
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
