"""Says how large things are, and which are the largest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_MOST = 3
_SHARE = 0.8
"""A directory with this share of a larger one's bytes in it is named in its place."""


def megabytes(size: int) -> str:
    """``4.1 MB``."""
    return f"{size / 1e6:.1f} MB"


def largest(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest files and directories, the first is the largest: each as deep as it still holds nearly all of it.

    :param sizes: Bytes of each file, by its path.
    """
    totals: Counter[str] = Counter()
    below: dict[str, set[str]] = {}
    for name, size in sizes.items():
        parts = name.split("/")
        for depth in range(len(parts), 0, -1):
            path, above = "/".join(parts[:depth]), "/".join(parts[: depth - 1])
            totals[path] += size
            below.setdefault(above, set()).add(path)
    found = []
    for path in sorted(below.get("", ()), key=lambda each: (-totals[each], each))[:_MOST]:
        while path in below:
            deeper = max(below[path], key=lambda each: (totals[each], each))
            if totals[deeper] < _SHARE * totals[path]:
                break
            path = deeper
        found.append((path, totals[path]))
    return found
