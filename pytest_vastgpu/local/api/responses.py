"""Request bodies and responses of the API, also those of faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Receive
from starlette.types import Scope
from starlette.types import Send

from pytest_vastgpu.local.market.errors import ApiError

_MOST_BODY = 1 << 20
_MOST_READ = 64 << 20
"""The part of a too large request that is read and thrown away: a client sends its body before it reads the answer."""
_FLOOD = b" " * (1 << 16)


class Json(JSONResponse):
    """JSON as Python's own encoder writes it: it allows NaN, which faults need, and escapes lone surrogates."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Endless(Response):
    """A response that begins and never ends.

    :param pause_s: Seconds between two characters; 0: as fast as the client reads.
    """

    def __init__(self, pause_s: float) -> None:
        super().__init__(media_type="application/json")
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        gone = asyncio.ensure_future(_disconnected(receive))
        while not gone.done():
            piece = b" " if self._pause_s else _FLOOD
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.wait([gone], timeout=self._pause_s)


class EndlessHead(Response):
    """A response whose headers never end. It is written past the server, which sends headers only as a whole.

    :param write: Writes bytes to the connection.
    :param pause_s: Seconds between two characters.
    """

    def __init__(self, write: Callable[[bytes], None], pause_s: float) -> None:
        super().__init__()
        self._write = write
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-More: ")
        gone = asyncio.ensure_future(_disconnected(receive))
        while not gone.done():
            self._write(b"x")
            await asyncio.wait([gone], timeout=self._pause_s)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def body_of(request: Request) -> bytes:
    """Read the body of a request.

    :raises ApiError: if it is too large; such a body is never in memory as a whole.
    """
    declared = request.headers.get("Content-Length", "")
    size = int(declared) if declared.isdecimal() and len(declared) < 20 else 0
    found = bytearray()
    if size <= _MOST_READ:
        async for piece in request.stream():
            size = max(size, len(found) + len(piece))
            if size <= _MOST_BODY:
                found += piece
            else:
                found.clear()
                size += len(piece)
                if size > _MOST_READ:
                    break
    if size > _MOST_BODY:
        raise ApiError(413, "invalid_request", "The request is too large")
    return bytes(found)
