"""The guard of all reports: one that cannot be made changes no test's result, and hides nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress

import pytest

from pytest_vastgpu.core.text import sanitize

_told = pytest.StashKey[set[str]]()
"""What a line has told of."""


@contextmanager
def guarded(config: pytest.Config, what: str) -> Iterator[None]:
    """Make a report within a ``with`` block. Whatever goes wrong there is told in one line, and the run goes on.

    A report that is made bit by bit, after each test, is told of once.

    :param what: The report, at the start of a sentence: ``the report out.html``.
    """
    try:
        yield
    except OSError as error:
        _tell_once(config, what, f"cannot be written: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - a defect of ours is none of the tests
        defect = f"{type(error).__name__}: {error}, a defect of pytest-vastgpu: please report it"
        _tell_once(config, what, f"cannot be made: {defect}")


def _tell_once(config: pytest.Config, what: str, why: str) -> None:
    told = config.stash.setdefault(_told, set())
    if what not in told:
        told.add(what)
        tell(config, f"{what} {why}; the results of the tests are not affected")


def tell(config: pytest.Config, text: str) -> None:
    """Show a line where pytest writes, else on standard error. A closed terminal is no reason to fail."""
    line = f"vastgpu: {sanitize.line(text)}"
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    with suppress(OSError, ValueError):
        if reporter is None:
            sys.stderr.write(f"{line}\n")
        else:
            reporter.ensure_newline()
            reporter.write_line(line, yellow=True)
