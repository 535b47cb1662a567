"""File descriptors whose closing means that this process is gone.

A child that is forked without starting another program (multiprocessing, pytest-forked) inherits every descriptor, and
would keep a lock held, or a pipe open, after this process has died. So it closes them before it does anything else.
"""

from __future__ import annotations

import contextlib
import os

_descriptors: set[int] = set()


def keep_private(descriptor: int) -> int:
    """Have forked children close it; the descriptor itself."""
    _descriptors.add(descriptor)
    return descriptor


def close_private(descriptor: int) -> None:
    """Close it here; success also where somebody has closed it already."""
    _descriptors.discard(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _close_inherited() -> None:
    while _descriptors:
        os.close(_descriptors.pop())


os.register_at_fork(after_in_child=_close_inherited)
