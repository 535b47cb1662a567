"""Compresses a stream on its way, where that pays."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from collections.abc import Iterator

BLOCK_BYTES = 256 << 10
"""Bytes that are compressed at once."""
_SAMPLES = 4
_SAMPLE_BYTES = 4 << 10
_WORTH = 0.75
"""A block of which a sample stays larger than this share is sent as it is: weights and images of which little would be
taken off, for much work."""
_LEVEL = 1
"""Of zlib: the higher ones take twice as long and more, for a tenth less. At 100 Mbit/s the line waits for them."""
_GZIP = 31
"""zlib's number for the format of gzip, which every tar can read."""


def compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """A stream as a gzip file, in blocks that are compressed or only wrapped, each as it is worth."""
    block = bytearray()
    for part in parts:
        block += part
        if len(block) >= BLOCK_BYTES:
            yield _member(block)
            block.clear()
    if block:
        yield _member(block)


def _member(block: bytearray) -> bytes:
    """A member of a gzip file: a file may have several, one after the other."""
    made = zlib.compressobj(_LEVEL if _worth(block) else 0, zlib.DEFLATED, _GZIP)
    return made.compress(block) + made.flush()


def _worth(block: bytearray) -> bool:
    step = max(_SAMPLE_BYTES, len(block) // _SAMPLES)
    sample = b"".join(block[at : at + _SAMPLE_BYTES] for at in range(0, len(block), step))
    return len(zlib.compress(sample, _LEVEL)) <= _WORTH * len(sample)
