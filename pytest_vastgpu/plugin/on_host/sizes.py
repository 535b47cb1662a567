"""Says how large a project is, and what in it is the largest."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.reporting.sentences import size

_MOST = 3
_SHARE = 0.8
"""A directory with this share of a larger one's bytes in it is named in its place."""
_WORTH = 0.01
"""What is less than this share of all is not worth naming."""


def require_size(sizes: Mapping[str, int], most_bytes: int, most_files: int) -> None:
    """Check that a project can be brought in reasonable time.

    :param sizes: Bytes of each file, by its path.
    :raises ConfigurationError: one line: it is too large, what most of it is, and what to do.
    """
    total = sum(sizes.values())
    if total > most_bytes:
        found = largest(sizes)
        much, most = size(total), size(most_bytes)
        where = ", ".join(f"{name} ({size(each)})" for name, each in found)
    elif len(sizes) > most_files:
        found = largest(dict.fromkeys(sizes, 1))
        much, most = f"{len(sizes):,} files", f"{most_files:,}"
        where = ", ".join(f"{name} ({files:,})" for name, files in found)
    else:
        return
    raise ConfigurationError(
        sanitize.line(
            f"the project has {much} to bring, more than {most}, most of it in {where}: put that into .gitignore; "
            f"download it there in --vast-setup; or say --vast-sync={glob.escape(found[0][0])} to bring it all the same"
        )
    )


def largest(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest files and directories, the first is the largest: each as deep as it still holds nearly all of it.

    :param sizes: Bytes of each file, by its path.
    """
    totals: Counter[str] = Counter()
    below: dict[str, set[str]] = {}
    for name, each in sizes.items():
        parts = name.split("/")
        totals[""] += each
        for depth in range(len(parts), 0, -1):
            path, above = "/".join(parts[:depth]), "/".join(parts[: depth - 1])
            totals[path] += each
            below.setdefault(above, set()).add(path)
    found: list[tuple[str, int]] = []
    for path in sorted(below.get("", ()), key=lambda each: (-totals[each], each))[:_MOST]:
        if found and totals[path] < _WORTH * totals[""]:
            break
        while path in below:
            deeper = max(below[path], key=lambda each: (totals[each], each))
            if totals[deeper] < _SHARE * totals[path]:
                break
            path = deeper
        found.append((path, totals[path]))
    return found
