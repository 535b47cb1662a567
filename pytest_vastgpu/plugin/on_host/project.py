"""The project's files: what git tracks, and what it does not ignore."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

FOLDER = "project"
"""Where the project lies, below the working directory of a host."""


def files(root: Path) -> dict[str, str]:
    """The project's files by their place below a host's working directory.

    :param root: pytest's root directory.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return {f"{FOLDER}/{name}": str(root / name) for name in names if (root / name).exists()}
