"""A real HTTP server on loopback that answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    authorization: str | None
    body: Any


@dataclass(frozen=True)
class Answer:
    """One answer. ``promised`` more bytes than are sent make it break off; ``silent`` closes without any."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    promised: int = 0
    silent: bool = False


class ScriptedServer(ThreadingHTTPServer):
    """Gives the next scripted answer to each request; a request too many gets 599."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: deque[Answer] = deque()
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def will_answer(self, *answers: Answer | object) -> None:
        self.script.extend(answer if isinstance(answer, Answer) else Answer(body=answer) for answer in answers)

    @property
    def calls(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def _answer(self) -> None:
        split = urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        body = json.loads(sent) if sent else None
        self.server.asked.append(Asked(self.command, split.path, query, self.headers.get("Authorization"), body))
        answer = self.server.script.popleft() if self.server.script else Answer(599, "nothing scripted")
        if answer.silent:
            self.close_connection = True
            return
        text = answer.body if isinstance(answer.body, (str, bytes)) else json.dumps(answer.body)
        data = text if isinstance(text, bytes) else text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(data) + answer.promised))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        if answer.promised:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - names that http.server asks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing on stderr."""


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
