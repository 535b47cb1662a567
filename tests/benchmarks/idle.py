"""What the plugin costs a run that rents nothing: instructions of pytest with it, beside those with ``-p no:vastgpu``.

``python -m tests.benchmarks.idle`` runs a small suite of trivial tests under valgrind's callgrind, plain and with
xdist's ``-n 0``, and counts. Instructions do not depend on what else the machine does; hashes are seeded, and byte code
is compiled beforehand. The package is laid out as installers do it, since pytest looks into each file of an installed
plugin. Other plugins that happen to be installed are kept out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest_vastgpu
from tests.benchmarks import report

ENTRY_POINT = "[pytest11]\nvastgpu = pytest_vastgpu:pytest_plugin\n"
GOAL_RATIO = 1.01
WITHOUT = ("-p", "no:vastgpu")
RUNS = ((), ("-n", "0"))
OTHERS = ("hypothesispytest", "randomly", "xdist", "anyio", "asyncio", "cov", "timeout")
"""Plugins that a development environment may have."""


def command(directory: Path, arguments: Sequence[str]) -> list[str]:
    kept_out = [name for name in OTHERS if not (name == "xdist" and "-n" in arguments)]
    blocked = [part for name in kept_out for part in ("-p", f"no:{name}")]
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *blocked, *arguments, str(directory)]


def install(directory: Path) -> None:
    """Lay the package out as an installer does: its files, and beside them what it says of itself."""
    package = Path(pytest_vastgpu.__file__).parent
    shutil.copytree(package, directory / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    about = directory / "pytest_vastgpu-0.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: pytest-vastgpu\nVersion: 0\n", encoding="utf-8")
    about.joinpath("entry_points.txt").write_text(ENTRY_POINT, encoding="utf-8")
    files = sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    about.joinpath("RECORD").write_text("".join(f"{path},,\n" for path in files), encoding="utf-8")


def environment(directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "PYTEST", "PYTHON"))}
    return {
        **kept,
        "HOME": str(directory),
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(directory / "site"),
        "PYTHONPYCACHEPREFIX": str(directory / "bytecode"),
    }


def instructions(directory: Path, arguments: Sequence[str]) -> int:
    """How many one run takes; one before it has compiled what it imports."""
    suite = directory / "suite"
    run = command(suite, arguments)
    counted = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/callgrind.out", *run]
    for each in (run, counted):
        done = subprocess.run(each, env=environment(directory), cwd=suite, capture_output=True, text=True, check=False)
        if done.returncode:
            raise report.Failed(f"{' '.join(each)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    if found is None:
        raise report.Failed(f"valgrind does not say what it counted:\n{done.stderr}")
    return int(found[1])


def rows(quick: bool) -> list[report.Row]:
    if shutil.which("valgrind") is None:
        raise report.Skipped("valgrind is not installed, which counts instructions (Debian: apt-get install valgrind)")
    number = 5 if quick else 50
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        suite = directory / "suite"
        suite.mkdir()
        install(directory / "site")
        suite.joinpath("pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        tests = "".join(f"def test_{number}():\n    assert {number} >= 0\n\n" for number in range(number))
        suite.joinpath("test_trivial.py").write_text(tests, encoding="utf-8")
        for options in ((),) if quick else RUNS:
            others = instructions(directory, [*options, *WITHOUT])
            ours = instructions(directory, options)
            found.append(
                report.Row(
                    f"nothing rented: pytest {' '.join(options)}".rstrip(),
                    ours / 1e6,
                    "M instructions",
                    others=others / 1e6,
                    beside=" ".join(WITHOUT),
                    most_ratio=GOAL_RATIO,
                )
            )
    return found


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
