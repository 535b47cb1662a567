"""Writes into ``about.json``, in the working directory of a host, what the tests' environment is. Run by its Python."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path


def write(work: Path) -> None:
    """Write ``about.json``; and see that what was brought to run the tests can be loaded.

    That also compiles it, so that the first worker starts as fast as the others.
    """
    sys.path.insert(0, str(work / "runner"))
    try:
        import pytest  # noqa: F401
        import xdist.remote  # noqa: F401
    except Exception as error:  # noqa: BLE001 - whatever the modules of an environment raise
        sys.stdout.write(f"error: pytest cannot be loaded there: {type(error).__name__}: {error}\n")
        sys.exit(1)
    plugins: dict[str, list[str]] = {}
    for found in distributions():
        for point in found.entry_points:
            if point.group == "pytest11":
                plugins.setdefault(point.name, [found.metadata["Name"], found.version])
    about = {
        "python": sys.executable,
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "work": str(work),
        "path": os.environ.get("PATH", ""),
        "plugins": plugins,
    }
    (work / "about.json").write_text(json.dumps(about), "utf-8")
    sys.stdout.write("Python {} in {}\n".format(about["version"], Path(sys.executable).parents[1]))


if __name__ == "__main__":
    write(Path.cwd())
