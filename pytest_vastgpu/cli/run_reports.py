"""What ``vastgpu report`` does: finds a run's directory, reads it, and prints a report or writes a page."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.output import columns
from pytest_vastgpu.cli.output import say
from pytest_vastgpu.cli.parsers import LAST
from pytest_vastgpu.cli.run_list import NoSuchRun
from pytest_vastgpu.cli.run_list import chosen
from pytest_vastgpu.cli.run_records import all_runs
from pytest_vastgpu.core import ledger_record
from pytest_vastgpu.core.events import EVENTS
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.reporting import alive
from pytest_vastgpu.reporting import cost_file
from pytest_vastgpu.reporting import tests_file
from pytest_vastgpu.reporting.run.reader import read_run
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run_text import told

_FILES = (EVENTS, cost_file.NAME, tests_file.NAME, ledger_record.FILE)
_WIDE = 100
"""Columns, where the output is no terminal."""


def print_run(word: str, *, markdown: bool, verbose: bool) -> int:
    """Print what there is to tell of a run.

    :param word: See :func:`directory_of`.
    :returns: The exit code.
    :raises NoSuchRun: if there is none.
    """
    report = _read(word)
    if markdown:
        from pytest_vastgpu.reporting import github

        sys.stdout.write(github.summary(report, alive.of_run(report, time.time())).rstrip("\n") + "\n")
        return ExitCode.OK
    for line in told(report, time.time(), columns() or _WIDE, 1 if verbose else 0):
        say(line.text)
    say(f"its files are in {directory_of(word)}")
    return ExitCode.OK


def write_page(word: str, file: Path) -> int:
    """Write the page of a run.

    :param word: See :func:`directory_of`.
    :returns: The exit code.
    :raises VastGpuError: if there is no such run, or the page cannot be made or written.
    """
    try:
        from pytest_vastgpu.reporting.page.render import render

        report = _read(word)
        page = render(report, alive.of_run(report, time.time()))
    except ImportError as error:
        raise VastGpuError(
            f"the page is made by the package {error.name}: install it with pip install 'pytest-vastgpu[report]'"
        ) from error
    try:
        file.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise VastGpuError(f"the page {file} cannot be written: {error.strerror}; name another file") from error
    return ExitCode.OK


def directory_of(word: str) -> Path:
    """The directory of the run that is meant.

    :param word: ``last``, a run's id or the start of it, or a directory with the files of a run.
    :raises NoSuchRun: if there is none, or more than one.
    """
    if word == LAST:
        runs = all_runs()
        if not runs:
            raise NoSuchRun("no run of this machine has rented anything yet")
        return runs[0].directory
    path = Path(word)
    if path.is_dir() and any((path / name).exists() for name in _FILES):
        return path.resolve()
    try:
        return chosen(word).directory
    except NoSuchRun:
        if not path.is_dir():
            raise
        files = ", ".join(_FILES)
        raise NoSuchRun(
            f"the directory {str(path)[:200]} has no file of a run ({files}); `vastgpu runs` lists the runs that there "
            "are on this machine"
        ) from None


def _read(word: str) -> RunReport:
    directory = directory_of(word)
    report = read_run(directory)
    if not report.instances and not report.tests and len(report.missing) > 1:
        why = "; ".join(report.missing)
        raise VastGpuError(f"the files in {directory} say nothing of a run: {sanitize.line(why)}")
    return report
