"""What git knows of a directory. The one module that runs git here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError

OF_ANOTHER = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
)
"""Variables that name a repository, as in a hook of git's: the one that the directory is in is meant, and no other."""


class NoRepository(Exception):
    """There is no repository, or no git; the text says which."""


@dataclass(frozen=True)
class Listed:
    """The names that git lists in a directory, relative to it."""

    tracked: tuple[str, ...]
    untracked: tuple[str, ...]
    """Neither tracked nor ignored."""
    repositories: tuple[str, ...]
    """Directories that are repositories of their own: submodules, and others."""


def listed(root: Path) -> Listed:
    """What git tracks below a directory, and what it does not ignore.

    :raises NoRepository: git does not know the directory.
    :raises ConfigurationError: git refuses, with what it says.
    """
    tracked: dict[str, None] = {}  # a name in a conflict is listed several times
    untracked: list[str] = []
    repositories: list[str] = []
    for line in _run(root, "ls-files", "-z", "-t", "-s", "--cached", "--others", "--exclude-standard"):
        kind, _, rest = line.partition(" ")
        if kind == "?":
            (repositories if rest.endswith("/") else untracked).append(rest.rstrip("/"))
            continue
        about, _, name = rest.partition("\t")
        if about.startswith("160000"):
            repositories.append(name)
        else:
            tracked[name] = None
    return Listed(tuple(tracked), tuple(untracked), tuple(dict.fromkeys(repositories)))


def commit(root: Path) -> tuple[str, int]:
    """The commit that a directory has been checked out from, and how many of its tracked files differ from it.

    :returns: The start of the commit's hash; empty where there is no commit yet.
    :raises ConfigurationError: as :func:`listed`.
    """
    try:
        found, _, differ = _state(root)
    except NoRepository as error:
        raise ConfigurationError(f"git does not tell the commit of {root}: {error}") from error
    return found[:9], differ


def commit_info(root: Path) -> dict[str, object]:
    """The commit of a directory, with the keys of pytest-benchmark's ``commit_info``; ``id`` is empty where none is.

    :raises NoRepository: as :func:`listed`.
    :raises ConfigurationError: as :func:`listed`.
    """
    found, branch, differ = _state(root)
    times = next(_run(root, "show", "-s", "--format=%cI%n%aI"), "").split() if found else []
    told = dict(zip(("time", "author_time"), times, strict=False))
    return {"id": found, "branch": branch, "dirty": differ > 0, "project": root.name, **told}


def _state(root: Path) -> tuple[str, str, int]:
    """The commit that a directory has been checked out from, its branch, and how many tracked files differ from it."""
    found, branch, differ, old = "", "", 0, False
    for line in _run(root, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=no", "--", "."):
        if old:  # the former name of one that was renamed
            old = False
        elif line.startswith("# branch.oid "):
            found = line.split()[2]
        elif line.startswith("# branch.head "):
            branch = line.split(maxsplit=2)[2]
        elif line[:2] in {"1 ", "2 ", "u "}:
            differ, old = differ + 1, line.startswith("2 ")
    return ("" if found == "(initial)" else found), branch, differ


def _run(root: Path, *arguments: str) -> Iterator[str]:
    """What git prints, without the NULs at its ends."""
    environ = {name: value for name, value in os.environ.items() if name not in OF_ANOTHER}
    environ |= {"LC_ALL": "C", "LANGUAGE": "", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(["git", *arguments], cwd=root, env=environ, capture_output=True, check=False)
    except OSError as error:
        raise NoRepository(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        said = os.fsdecode(done.stderr).strip()
        remedy = ""
        if "not a git repository" in said:
            broken = next((each / ".git" for each in (root, *root.parents) if os.path.lexists(each / ".git")), None)
            if broken is None:
                raise NoRepository("no git repository")
            # Only what is in it says all that it ignores, and nothing of that may leave this machine unasked.
            remedy = f"; mend {broken}, or move it away: then all is brought, also what .gitignore names"
        elif (mend := said.rpartition("\n")[2].strip()).startswith("git "):
            remedy = f"; run: {mend}"  # of a repository of another user's, git says how to trust it
        raise ConfigurationError(
            f"git does not list the files in {root}: {sanitize.line(said.partition(chr(10))[0])}{sanitize.line(remedy)}"
        )
    return (os.fsdecode(name) for name in done.stdout.split(b"\0") if name)
