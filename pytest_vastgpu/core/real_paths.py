"""The file system of this machine, also while a test has put another one in its place (pyfakefs).

Such tools replace functions in every module that has them by name: in a class they are not looked for.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from stat import S_ISREG


class _Real:
    getcwd = staticmethod(os.getcwd)
    stat = staticmethod(os.stat)


def absolute(path: PurePath) -> PurePath:
    """A path, a relative one from the working directory on."""
    return path if path.is_absolute() else PurePath(_Real.getcwd(), path)


def is_file(path: PurePath) -> bool:
    """Whether it is a regular file, or a link to one, that can be looked at."""
    try:
        return S_ISREG(_Real.stat(str(path)).st_mode)
    except (OSError, ValueError):
        return False
