"""Relays bytes between two streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from collections.abc import Callable

CHUNK_BYTES = 1 << 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK_BYTES):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def splice(one: Streams, other: Streams) -> None:
    """Relay bytes and the end of file in both directions; then close both streams."""
    directions = [asyncio.ensure_future(_copy(one[0], other[1])), asyncio.ensure_future(_copy(other[0], one[1]))]
    try:
        await asyncio.gather(*directions)
    except OSError:  # one side was reset, so the other is closed too
        pass
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        for _, writer in (one, other):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def relay_to(connect: Callable[[], Awaitable[Streams]]) -> Handler:
    """Return a handler that relays each connection to what ``connect`` opens, or closes it if that fails."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await connect()
        except OSError:  # no process listens there: Docker's proxy closes the connection too
            writer.close()
            return
        await splice((reader, writer), onward)

    return handle
