"""The folder of the files with which wrappers are told a secret. Each removes its own once it has read it."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from pytest_vastgpu.core.directories import fresh_directory
from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.core.ownership import ownership

BEGINS_S = 60.0
"""One that is so young may have no lock yet."""


class SecretFiles:
    """A folder of this run's own. A run that was killed leaves its folder, and the next one removes it.

    :param parent: The folder of all runs of this user.
    :raises OSError: it cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        parent = private_directory(parent)
        _sweep(parent)
        self.path = fresh_directory("run", parent)
        self._living = contextlib.ExitStack()
        self._living.enter_context(ownership(self.path))

    def remove(self) -> None:
        """Remove it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._living.close()


def _sweep(parent: Path) -> None:
    for path in parent.iterdir():
        with contextlib.suppress(OSError):  # another run has removed it
            if time.time() - path.stat().st_mtime > BEGINS_S and not is_owned(path):
                shutil.rmtree(path, ignore_errors=True)
