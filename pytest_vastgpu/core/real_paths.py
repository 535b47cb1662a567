"""Access to the real file system, also while a test has replaced it (pyfakefs).

Such tools replace functions in every module that has them by name, but they do not look inside classes.
"""

from __future__ import annotations

import os
from pathlib import PurePath


class _Real:
    getcwd = staticmethod(os.getcwd)
    stat = staticmethod(os.stat)
    listdir = staticmethod(os.listdir)


def absolute(path: PurePath) -> PurePath:
    """An absolute path; a relative one starts at the working directory."""
    return path if path.is_absolute() else PurePath(_Real.getcwd(), path)


def stat(path: str) -> os.stat_result:
    """What a path leads to.

    :raises OSError: if that cannot be told.
    """
    return _Real.stat(path)


def listdir(path: str) -> list[str]:
    """The names in a directory.

    :raises OSError: if it cannot be read.
    """
    return _Real.listdir(path)
