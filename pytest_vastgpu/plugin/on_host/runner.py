"""What runs the tests on a host: pytest, xdist and this plugin, as they are installed here.

They are brought, not installed: so both sides have the same versions, and no index is asked. All are pure Python.
"""

from __future__ import annotations

from importlib.metadata import Distribution
from importlib.metadata import distribution
from pathlib import Path

FOLDER = "runner"
"""Where they lie, below the working directory of a host."""
DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "execnet", "pytest-xdist")


def files() -> dict[str, str]:
    """The packages' files and directories by their place below a host's working directory."""
    found = {f"{FOLDER}/pytest_vastgpu": str(Path(__file__).parents[2])}
    for name in (*DISTRIBUTIONS, "pytest-vastgpu"):
        for top, path in _tops(distribution(name)).items():
            found[f"{FOLDER}/{top}"] = str(path)
    return found


def _tops(known: Distribution) -> dict[str, Path]:
    """The files and directories that a distribution has put directly into ``site-packages``."""
    tops: dict[str, Path] = {}
    for file in known.files or ():
        top = file.parts[0]
        if top not in {"..", "__pycache__"} and not top.endswith(".pth"):
            tops[top] = Path(str(known.locate_file(top)))
    return {top: path for top, path in tops.items() if path.exists()}
