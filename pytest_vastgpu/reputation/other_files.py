"""Handles files beside the cache: it keeps copies of damaged or old contents, and reads the caches of others."""

from __future__ import annotations

from pathlib import Path

from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation import locked_files
from pytest_vastgpu.reputation.contents import CacheContents
from pytest_vastgpu.reputation.reader import Parsed
from pytest_vastgpu.reputation.reader import parse


def set_aside(path: Path, data: bytes, parsed: Parsed) -> str:
    """Keep a copy of everything that the new file will not contain.

    :param data: The old file.
    :returns: A sentence for the user; empty if nothing had to be kept.
    """
    if parsed.damage:
        aside = locked_files.set_aside(path, data, "damaged")
        saved = sum(len(book.evidence) for book in parsed.contents.markets.values())
        return (
            f"{path} is not a readable host cache ({parsed.damage}); it was moved to {aside}, and "
            f"{saved} records were saved from it. Once repaired: vastgpu hosts merge {aside}"
        )
    if parsed.old:
        aside = locked_files.set_aside(path, data, "format-1")
        without = f", without {parsed.left_behind} records of local markets" if parsed.left_behind else ""
        return (
            f"{path} did not say which market a machine is on: what it says was taken over for {VAST}{without}; "
            f"the file as it was is {aside}"
        )
    if parsed.broken:
        aside = locked_files.set_aside(path, b"".join(parsed.broken), "damaged")
        return f"{path}: {len(parsed.broken)} records that were cut off or unreadable were moved to {aside}"
    return ""


def foreign(path: Path) -> CacheContents:
    """The contents of another cache.

    :raises HostCacheError: if it does not exist, or is not a complete host cache.
    """
    try:
        parsed = parse(locked_files.read(path))
    except (OSError, ValueError) as error:  # ValueError: no file can have that name
        why = getattr(error, "strerror", "") or error
        raise HostCacheError(f"cannot read {path} ({why}): nothing was merged") from error
    if parsed.newer:
        raise HostCacheError(f"{path} was written by a newer pytest-vastgpu: update this one")
    if parsed.damage:
        raise HostCacheError(f"{path} is not a readable host cache ({parsed.damage}): nothing was merged")
    return parsed.contents
