"""Carries bytes between two streams, both ways, until both directions have ended."""

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
    """Carries bytes both ways; each side's end of file is passed on. Both are closed in the end."""
    directions = [asyncio.ensure_future(_copy(one[0], other[1])), asyncio.ensure_future(_copy(other[0], one[1]))]
    try:
        await asyncio.gather(*directions)
    except OSError:  # one side was reset: the other has nobody to talk to any more
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
    """A connection handler that carries each connection on to what ``connect`` opens, or closes it where that fails."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await connect()
        except OSError:  # nobody listens there: what the client sees is what Docker's proxy shows, a closed connection
            writer.close()
            return
        await splice((reader, writer), onward)

    return handle
