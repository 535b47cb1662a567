"""Access to the real file system, also while a test has replaced it (pyfakefs).

Such tools replace functions in every module that has them by name, but they do not look inside classes.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from stat import S_ISREG


class _Real:
    getcwd = staticmethod(os.getcwd)
    stat = staticmethod(os.stat)


def absolute(path: PurePath) -> PurePath:
    """An absolute path; a relative one starts at the working directory."""
    return path if path.is_absolute() else PurePath(_Real.getcwd(), path)


def is_file(path: PurePath) -> bool:
    """Whether the path is a regular file, or a link to one, and can be examined."""
    try:
        return S_ISREG(_Real.stat(str(path)).st_mode)
    except (OSError, ValueError):
        return False
