"""Reads an HTTP answer with limits on its unpacked size and its duration, which the market's side controls."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

LIMIT_BYTES = 8 << 20
"""Largest answer, unpacked. The largest regular one, a page of 25 instances with full create texts, is under 2 MB."""
LIMIT_S = 60.0
"""Longest time for one answer, from its first byte. The client's time-out limits silence within that time."""
ENCODING = "gzip"
"""The only compression that requests accept, since its unpacking can stop at any byte."""


class Unbounded(Exception):
    """An answer is too large, takes too long, or cannot be unpacked; the message says which."""


def read(chunks: Iterable[bytes], encoding: str, *, cut: bool = False, clock: Callable[[], float]) -> bytes:
    """The whole answer, unpacked.

    :param chunks: The chunks from the network.
    :param encoding: The header ``Content-Encoding``.
    :param cut: Return the beginning of an answer that is too large or too slow, instead of raising.
    :param clock: Monotonic clock, in seconds.
    :raises Unbounded: if it is too large or too slow.
    """
    found = bytearray()
    until = clock() + LIMIT_S
    for piece in _unpacked(chunks, encoding.strip().lower()):
        found += piece
        problem = ""
        if len(found) > LIMIT_BYTES:
            problem = f"is larger than {LIMIT_BYTES >> 20} MB"
        elif clock() > until:
            problem = f"has not ended after {LIMIT_S:.0f} s"
        if problem and cut:
            return bytes(found[:LIMIT_BYTES]) + f"\n[the rest is left out: it {problem}]\n".encode()
        if problem:
            raise Unbounded(problem)
    return bytes(found)


def _unpacked(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The unpacked answer, in pieces of at most one byte more than the limit."""
    if encoding in {"", "identity"}:
        yield from chunks
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise Unbounded(f"is packed as {encoding[:40]!r}, which was not asked for")
    unpacking = zlib.decompressobj(wbits=47)  # detects gzip and zlib from the first bytes
    try:
        for chunk in chunks:
            if unpacking.eof:
                return  # data after the end is ignored
            while chunk:
                yield unpacking.decompress(chunk, LIMIT_BYTES + 1)
                chunk = b"" if unpacking.eof else unpacking.unconsumed_tail
    except zlib.error as error:
        raise Unbounded(f"cannot be unpacked ({error})") from error
