"""``sys.path`` of a worker on a host: the host's own, and the project's directories that are on it here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from pathlib import PurePosixPath

from pytest_vastgpu.plugin.on_host.places import Places
from pytest_vastgpu.plugin.on_host.places import within

_INSTALLED = {"site-packages", "dist-packages"}


def project_directories(path: Sequence[str], places: Places) -> tuple[list[str], list[str]]:
    """The project's directories on the host: those before the standard library, and those behind it.

    An editable install or ``PYTHONPATH`` puts them there, such as ``src``. What is installed in an environment below
    the root is none of them: it is this machine's.

    :param path: ``sys.path`` here.
    """
    first: list[str] = []
    last: list[str] = []
    found = first
    for entry in map(os.path.abspath, path):
        there = places.path_on_host(Path(entry))
        if there is not None and not _is_of_an_environment(Path(entry), places.root):
            found.append(str(there))
        elif Path(entry).is_relative_to(sys.base_prefix):
            found = last
    return first, last


def _is_of_an_environment(path: Path, root: Path) -> bool:
    """Whether a directory below the root belongs to a Python environment there."""
    parents = [parent for parent in (path, *path.parents) if within(parent, root) not in {None, PurePosixPath()}]
    environments = {Path(sys.prefix), Path(sys.base_prefix)}
    return any(
        parent.name in _INSTALLED or parent in environments or (parent / "pyvenv.cfg").exists() for parent in parents
    )
