"""The stored baselines: read before anything is rented, written when the run is over.

Each process that runs tests reads them. Only the controller, or the only process, writes: what its workers have
measured comes in the reports of their tests.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from pytest_vastgpu.core.files import read_file
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.files import Stored
from pytest_vastgpu.measuring.baselines.files import Unreadable
from pytest_vastgpu.measuring.baselines.files import document
from pytest_vastgpu.measuring.baselines.files import file_name
from pytest_vastgpu.measuring.baselines.files import read
from pytest_vastgpu.measuring.baselines.files import slug
from pytest_vastgpu.measuring.baselines.words import no_such
from pytest_vastgpu.measuring.record import from_json
from pytest_vastgpu.plugin.carried import carried
from pytest_vastgpu.plugin.git import NoRepository
from pytest_vastgpu.plugin.git import commit_info
from pytest_vastgpu.plugin.measurements import MEASUREMENT
from pytest_vastgpu.plugin.options import SETTINGS

DIRECTORY = Path(".vastgpu", "baselines")
"""Below the tests' root directory. In it is one for each kind of machine."""
PROPERTY = "vast_baseline"
"""Name under which an entry that is to be saved travels with the report of its test."""
LARGEST_BYTES = 32 << 20
_stored = pytest.StashKey[list[Stored]]()


def name_for(what: str, config: pytest.Config) -> str:
    """The baseline to ``save`` or to ``compare`` with; empty: none is asked for."""
    return next((each.partition(":")[2] for each in config.stash[SETTINGS].baseline if each.startswith(what)), "")


def stored_in(config: pytest.Config) -> list[Stored]:
    """All that is kept, of all names.

    :raises ConfigurationError: for a file that cannot be read, and where nothing is kept to compare with.
    """
    if _stored not in config.stash:
        config.stash[_stored] = _all(config.rootpath)
    return config.stash[_stored]


def problems(config: pytest.Config) -> list[str]:
    """What stands in the way of what is asked for, one line each. It is looked at before anything is rented."""
    saves, compares = name_for("save", config), name_for("compare", config)
    try:
        if saves:
            (config.rootpath / DIRECTORY).mkdir(parents=True, exist_ok=True)
        if compares:
            missing = no_such(compares, stored_in(config), sanitize.line(str(config.rootpath / DIRECTORY)))
            if missing and saves != compares:  # with the same name, this run is the first
                return [f"--vast-baseline=compare:{compares}: {missing}"]
    except OSError as error:
        return [f"--vast-baseline=save:{saves}: nothing can be kept in {config.rootpath / DIRECTORY}: {error.strerror}"]
    except ConfigurationError as error:
        return [f"--vast-baseline=compare:{compares}: {error}"]
    return []


class Saving:
    """Plugin object of the controller, or of the only process: keeps what the tests have measured.

    Only tests that passed count: their setup, their teardown and their subtests, too.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._entries: list[Entry] = []
        self._passed: dict[tuple[str, object], bool] = {}
        """How the call of each test, in each worker, has ended last."""
        self._failed: set[tuple[str, object]] = set()
        """Of those, the ones of which something has failed."""
        self._lost = 0
        """Measurements of tests that did not pass."""
        self._expected = False
        """Whether a test has measured, or failed and so may have wanted to."""
        self._told: list[tuple[str, bool]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test is over, here or in a worker."""
        test = (report.nodeid, getattr(report, "node", None))
        self._expected = self._expected or report.failed or bool(carried(report, MEASUREMENT))
        if report.failed:
            self._failed.add(test)
        if report.when == "call":
            self._passed[test] = report.passed
        if report.when != "teardown":
            return
        texts = carried(report, PROPERTY)
        passed = self._passed.pop(test, False) and test not in self._failed
        self._failed.discard(test)
        if passed:
            self._entries += [from_json(Entry, json.loads(text)) for text in texts]
        else:
            self._lost += len(texts)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files."""
        name = name_for("save", self._config)
        lost = f" ({self._lost} of tests that did not pass are not)" if self._lost else ""
        if not self._entries:
            if self._expected:
                why = "no test that passed has a measurement by vast_benchmark that can be compared with"
                self._told.append((f"nothing is saved as baseline {name!r}: {why}{lost}", False))
            return
        try:
            paths = save(self._config.rootpath, name, self._entries)
        except OSError as error:
            self._told.append((f"baseline {name!r} is not saved: {sanitize.line(str(error))}", True))
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        count = f"{len(self._entries)} measurement{'' if len(self._entries) == 1 else 's'}"
        where = ", ".join(str(path.relative_to(self._config.rootpath)) for path in paths)
        self._told.append((f"baseline {name!r} is saved, {count}{lost}: commit {where}", False))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where it is."""
        for line, bad in self._told:
            terminalreporter.write_line(f"vastgpu: {line}", red=bad)


def save(root: Path, baseline: str, entries: list[Entry]) -> list[Path]:
    """Write a file for each machine; returns their paths. A file that is there is left as it is.

    :raises OSError: if that cannot be done.
    """
    try:
        commit = commit_info(root)
    except (NoRepository, ConfigurationError):
        commit = {"id": "", "dirty": False, "project": root.name}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    by_machine: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        by_machine[entry.kind, entry.machine].append(entry)
    paths = []
    for (kind, machine), of_machine in by_machine.items():
        directory = root / DIRECTORY / slug(kind)
        directory.mkdir(parents=True, exist_ok=True)
        text = document(of_machine, baseline, when, commit)
        with _whole(directory, text) as new:
            paths.append(_numbered(new, partial(file_name, baseline=baseline, commit=commit, machine=machine)))
    return paths


@contextmanager
def _whole(directory: Path, text: str) -> Iterator[Path]:
    """A file with all of the text, for the time of the block: who reads baselines meanwhile does not see it."""
    new = directory / f".{os.getpid()}-{secrets.token_hex(4)}.new"
    try:
        new.write_text(text, encoding="utf-8")
        yield new
    finally:
        new.unlink(missing_ok=True)


def _numbered(new: Path, name: Callable[[int], str]) -> Path:
    """Give a file the next number beside it that no other run takes at this moment; returns its path."""
    taken = (int(path.name[:4]) for path in new.parent.glob("[0-9][0-9][0-9][0-9]_*.json"))
    number = max(taken, default=0)
    while True:
        number += 1
        path = new.with_name(name(number))
        try:
            path.hardlink_to(new)
        except OSError:
            if path.exists():  # another run was quicker
                continue
            # Not every file system has hard links; without them there is a moment for another run.
            new.rename(path)
        return path


def _all(root: Path) -> list[Stored]:
    found: list[Stored] = []
    for path in sorted((root / DIRECTORY).glob("*/*.json")):
        shown = sanitize.line(str(path.relative_to(root)))
        try:
            found += read(read_file(path, LARGEST_BYTES).decode())
        except (OSError, UnicodeDecodeError, Unreadable) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(
                f"{shown} cannot be read: {sanitize.line(why, 200)}; restore it with git checkout, or delete it"
            ) from None
    return found
