"""Reading an answer without trusting its size: what it unpacks to, and how long it takes, are bounded on the way."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

LIMIT_BYTES = 8 << 20
"""Most of one answer, unpacked. The largest that is due, 25 instances with all that a create may say, is under 2 MB."""
LIMIT_S = 60.0
"""Longest that one answer may take from its first byte on. The market may be silent within it for the time-out only."""
ENCODING = "gzip"
"""The only compression that is asked for, since its unpacking can be stopped at any byte."""


class Unbounded(Exception):
    """An answer is too large, takes too long, or is packed so that nobody can tell; why, in words."""


def read(chunks: Iterable[bytes], encoding: str, *, cut: bool = False, clock: Callable[[], float]) -> bytes:
    """The whole answer, unpacked.

    :param chunks: As they come from the network.
    :param encoding: The header ``Content-Encoding``.
    :param cut: Take the beginning of what is too large or too slow, as good enough.
    :param clock: Seconds that only go forward.
    :raises Unbounded: where it is too large or too slow.
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
    """The answer in pieces of at most the limit and a byte, however small the chunk that a piece comes from."""
    if encoding in {"", "identity"}:
        yield from chunks
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise Unbounded(f"is packed as {encoding[:40]!r}, which was not asked for")
    unpacking = zlib.decompressobj(wbits=47)  # gzip or zlib, as its first bytes say
    try:
        for chunk in chunks:
            if unpacking.eof:
                return  # what follows is no part of it
            while chunk:
                yield unpacking.decompress(chunk, LIMIT_BYTES + 1)
                chunk = b"" if unpacking.eof else unpacking.unconsumed_tail
    except zlib.error as error:
        raise Unbounded(f"cannot be unpacked ({error})") from error
