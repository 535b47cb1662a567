"""Other files than the cache itself: what is put aside of it, and what others have written."""

from __future__ import annotations

from pathlib import Path

from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation import locked_files
from pytest_vastgpu.reputation.contents import CacheContents
from pytest_vastgpu.reputation.reader import Parsed
from pytest_vastgpu.reputation.reader import parse


def set_aside(path: Path, data: bytes, parsed: Parsed) -> str:
    """Put aside what a new file will not have.

    :param data: The old file.
    :returns: What the user should know; empty where nothing was put aside.
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
    """What another cache says.

    :raises HostCacheError: if it is not there, or is not a whole host cache.
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
