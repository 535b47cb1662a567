"""Suites of tests that are run, and timed, in processes of their own, with nobody's home, keys or other plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks import report

LIMIT_S = 900.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a process that shares nothing with the person who measures, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "PYTEST", "XDG_"))}
    return {**kept, "HOME": str(home), **more}


def run(directory: Path, home: Path, *arguments: str, passed: int, **environ: str) -> float:
    """Seconds that a run of the tests in a directory takes.

    :param passed: As many must pass.
    :param environ: Environment beside :func:`environment`.
    :raises report.Failed: with what it said, if not as many passed.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *arguments]
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment(home, **environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    took = time.perf_counter() - began
    if done.returncode or not re.search(rf"^{passed} passed in ", done.stdout, re.MULTILINE):
        raise report.Failed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return took
