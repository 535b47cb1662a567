"""Checks of the places where runs keep files: the host cache, the records of runs, sockets."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.core import directories
from pytest_vastgpu.errors import HostCacheError

if TYPE_CHECKING:
    from pytest_vastgpu.reputation.reader import Parsed

_OTHER_CACHE = "export VAST_HOST_CACHE=/path/on/a/local/disk/hosts.yaml"
_OTHER_STATE = "export XDG_STATE_HOME=/path/on/a/local/disk"
LITTLE_MB = 500.0
NONE_MB = 20.0
"""Free space of less than these is warned of, or a problem: a run keeps logs and evidence."""


# --- the host cache ---------------------------------------------------------------------------------------------------


def check_cache(now: Situation) -> Sequence[Finding]:
    """Whether the host cache can be written and locked, and understood. A damaged one is left as it is."""
    from pytest_vastgpu.reputation import locked_files
    from pytest_vastgpu.reputation.cache_path import cache_path
    from pytest_vastgpu.reputation.host_cache import HostCache
    from pytest_vastgpu.reputation.reader import parse

    try:
        cache = HostCache(cache_path("", now.environ, now.directory))
        cache.require_writable()
    except HostCacheError as error:
        return [problem("host cache", str(error), "for example", _OTHER_CACHE)]
    try:
        data = locked_files.read(cache.path)
    except FileNotFoundError:
        return [ok("host cache", f"{cache.path} (none yet)")]
    except OSError as error:
        return [problem("host cache", f"{cache.path} cannot be read: {error.strerror or error}", "use", _OTHER_CACHE)]
    return [judge_cache(parse(data), str(cache.path))]


def judge_cache(parsed: Parsed, path: str) -> Finding:
    """Judge what a host cache holds. Pure."""
    if parsed.newer:
        return problem(
            "host cache",
            f"{path} was written by a newer pytest-vastgpu",
            "update this one, or use another file",
            "pip install --upgrade pytest-vastgpu",
        )
    if parsed.damage:
        text = f"{path} is damaged: {parsed.damage}; the next run sets it aside and keeps what can be read"
        return warning("host cache", text, "correct it before, if you have edited it", f"${{EDITOR:-vi}} {path}")
    if parsed.broken or parsed.notes:
        text = f"{path} has {len(parsed.broken) + len(parsed.notes)} entries that cannot be read, and are left out"
        return warning("host cache", text, "see what else it has", "vastgpu hosts list")
    return ok("host cache", f"{path}{' (of the first format: the next run takes it over)' if parsed.old else ''}")


# --- the records of runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What was seen of the directory for the records of runs."""

    path: str
    there: str = ""
    """The nearest directory that exists; empty if it is the path itself."""
    foreign: str = ""
    """Which directory belongs to another user, or is no directory."""
    open_to_all: str = ""
    """Which directory everybody may write to."""
    error: str = ""
    """Why nothing can be written or locked."""
    free_mb: float = 0.0


def check_state(_: Situation) -> Sequence[Finding]:
    """Whether runs can keep their records."""
    from pytest_vastgpu.core.directories import runs_dir

    return [judge_place(look_at(runs_dir(), directories.state_directory()))]


def look_at(path: Path, own: Path) -> Place:
    """Look at a directory, without making it.

    :param own: The highest directory that must be the user's alone.
    """
    there = path
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    ours = [each for each in (own, path) if os.path.lexists(each)]
    foreign = [each for each in ours if not each.is_dir() or each.stat().st_uid != os.geteuid()]
    unsafe = [each for each in ours if each.is_dir() and each.stat().st_mode & stat.S_IWOTH]
    error, free_mb = "", 0.0
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free_mb = shutil.disk_usage(there).free / 1e6
    except OSError as wrong:
        error = wrong.strerror or str(wrong)
    return Place(
        str(path),
        "" if there == path else str(there),
        str(foreign[0]) if foreign else "",
        str(unsafe[0]) if unsafe else "",
        error,
        free_mb,
    )


def judge_place(seen: Place) -> Finding:
    """Judge the directory for the records of runs. Pure."""
    if seen.foreign:
        text = f"{seen.foreign} belongs to another user, or is no directory"
        return problem("state", text, "remove it, or keep the records of runs elsewhere", _OTHER_STATE)
    if seen.open_to_all:
        text = f"everybody may write to {seen.open_to_all}, where the records of runs are"
        return problem("state", text, "close it", f"chmod 700 {seen.open_to_all}")
    if seen.error:
        text = f"{seen.there or seen.path} cannot be written or locked: {seen.error}"
        return problem("state", text, "keep the records of runs elsewhere", _OTHER_STATE)
    text = f"{seen.path} ({seen.free_mb / 1000:.1f} GB free)"
    if seen.free_mb < LITTLE_MB:
        text = f"{seen.path} has {seen.free_mb:.0f} MB left; a run keeps logs and evidence"
        make = problem if seen.free_mb < NONE_MB else warning
        return make("state", text, "make room, or keep the records of runs elsewhere", _OTHER_STATE)
    return ok("state", text)


# --- sockets ----------------------------------------------------------------------------------------------------------


def check_sockets(_: Situation) -> Sequence[Finding]:
    """Whether a run finds a directory for its socket."""
    try:
        made = directories.socket_directory()
    except OSError as error:
        text = f"a run finds no place for its socket: {error.strerror or error}"
        return [problem("sockets", text, "name a directory of yours with a short path", "export TMPDIR=/tmp")]
    made.rmdir()
    return [ok("sockets", f"in {made.parent}")]
