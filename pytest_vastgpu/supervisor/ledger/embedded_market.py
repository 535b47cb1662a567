"""How the commands of ``vastgpu`` reach the local market that belongs to a run: a file in the run's directory.

That market has a port and a key that nobody else is told. The file is there while the market runs, for this user only.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.core.secret import Secret

FILE = "market.json"


@dataclass(frozen=True)
class EmbeddedMarket:
    """Address and key of the local market of a run."""

    url: str
    key: Secret


@contextlib.contextmanager
def published(directory: Path, url: str, key: Secret) -> Iterator[None]:
    """Have the file in a run's directory for the time of a ``with`` block.

    :param directory: The run's own, which is closed to other users.
    :raises OSError: if the file cannot be written.
    """
    path = directory / FILE
    path.unlink(missing_ok=True)
    with open(path, "x", encoding="utf-8", opener=_only_ours) as file:
        json.dump({"url": url, "key": key.reveal()}, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read(directory: Path) -> EmbeddedMarket | None:
    """The market of the run of this directory; None where it has none, or none any more.

    A run that was killed leaves the file behind: look whether a process owns the directory.
    """
    try:
        found = json.loads((directory / FILE).read_bytes())
        return EmbeddedMarket(str(found["url"]), Secret(str(found["key"])))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
