"""Has a dependency leave out what it would import and nobody uses here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(module: str) -> Iterator[None]:
    """Have every import of a module fail in a ``with`` block, unless it is loaded already.

    :param module: One without which the dependency that imports it works all the same.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment] # makes an import of it fail
    try:
        yield
    finally:
        del sys.modules[module]
