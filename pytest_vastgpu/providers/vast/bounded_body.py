"""Reads an HTTP answer with a limit on its unpacked size, which the market's side controls."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from collections.abc import Iterator

LIMIT_BYTES = 8 << 20
"""Largest answer, unpacked. The largest regular one, a page of 25 instances with full create texts, is under 2 MB."""
ENCODING = "gzip"
"""The only compression that requests accept, since its unpacking can stop at any byte."""


class Unbounded(Exception):
    """An answer is too large or cannot be unpacked; the message says which."""


class BrokenOff(Exception):
    """An answer that is packed has no end."""


def read(chunks: Iterable[bytes], encoding: str, *, cut: bool = False) -> bytes:
    """The whole answer, unpacked.

    :param chunks: The chunks from the network.
    :param encoding: The header ``Content-Encoding``.
    :param cut: Return the beginning of an answer that is too large, instead of raising.
    :raises Unbounded: if it is too large, or cannot be unpacked.
    :raises BrokenOff: if its end is missing.
    """
    found = bytearray()
    for piece in _unpacked(chunks, encoding.strip().lower()):
        found += piece
        if len(found) > LIMIT_BYTES:
            problem = f"is larger than {LIMIT_BYTES >> 20} MB"
            if not cut:
                raise Unbounded(problem)
            return bytes(found[:LIMIT_BYTES]) + f"\n[the rest is left out: it {problem}]\n".encode()
    return bytes(found)


def _unpacked(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The unpacked answer, in pieces of at most one byte more than the limit."""
    if encoding in {"", "identity"}:
        yield from chunks
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise Unbounded(f"is packed as {encoding[:40]!r}, which was not asked for")
    unpacking = zlib.decompressobj(wbits=47)  # detects gzip and zlib from the first bytes
    begun = False
    try:
        for chunk in chunks:
            begun = begun or bool(chunk)
            if unpacking.eof:
                return  # data after the end is ignored
            while chunk:
                yield unpacking.decompress(chunk, LIMIT_BYTES + 1)
                chunk = b"" if unpacking.eof else unpacking.unconsumed_tail
    except zlib.error as error:
        raise Unbounded(f"cannot be unpacked ({error})") from error
    if begun and not unpacking.eof:
        raise BrokenOff("its packed text has no end")
