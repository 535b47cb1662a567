"""The project's files: which of them are brought to the hosts, and what is said of it."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shlex
import stat
import time
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from fnmatch import fnmatchcase
from pathlib import Path
from pathlib import PurePosixPath

from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin import git
from pytest_vastgpu.plugin.on_host import fetched
from pytest_vastgpu.plugin.on_host.links import sort
from pytest_vastgpu.plugin.on_host.sizes import require_size
from pytest_vastgpu.reporting import artifacts
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import size
from pytest_vastgpu.reporting.sentences import some
from pytest_vastgpu.servers import files
from pytest_vastgpu.servers.listing import Listing
from pytest_vastgpu.servers.listing import write

FOLDER = "project"
"""Where the project lies, below the working directory of a host."""
LIMIT_BYTES = 200_000_000
"""More than this is brought only of what ``--vast-sync`` names."""
KEPT_S = 30 * DAY_S
"""A project's list of files is of no use to anybody after that: a warm host has a newer one, if it still lives."""
_OURS = {fetched.FOLDER, artifacts.FOLDER}
LITTER = files.LITTER | _OURS | {"node_modules", ".eggs", ".hypothesis", ".ipynb_checkpoints", ".DS_Store"}
"""Names that are left out wherever they are, unless git tracks them or ``--vast-sync`` names them."""
SECRETS = (
    *(".env", ".env.*", ".envrc", "*.pem", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", ".pypirc"),
    *(".git-credentials", ".aws", ".ssh", ".gnupg"),
)
"""Patterns of names that are left out where no git says what is ignored, unless ``--vast-sync`` names them."""
_VENV = "pyvenv.cfg"
"""The file that makes a directory a virtual environment, which is of no use elsewhere."""


@dataclass
class Project:
    """What is brought of a project."""

    names: dict[str, str] = field(default_factory=dict)
    """Paths below the root directory; for a symbolic link that is brought as one, where it leads, else nothing."""
    size: int = 0
    """In bytes."""
    source: str = ""
    """What the files are, in words: a commit, and how they differ from it."""
    notices: list[str] = field(default_factory=list)
    """What is left out, or is worth knowing; a line each."""

    def lines(self) -> list[str]:
        """What is told before hosts are rented."""
        first = f"bringing {count(len(self.names), 'file')}, {size(self.size)}: {self.source}"
        return [sanitize.line(text) for text in (first, *self.notices)]


def listing(root: Path, patterns: Sequence[str]) -> tuple[str, list[str]]:
    """A list of the project's files, for :attr:`~pytest_vastgpu.model.Workload.listing`, and what is to be told of it.

    :param root: pytest's root directory.
    :param patterns: ``--vast-sync``.
    :returns: The path of the list, and the lines.
    :raises ConfigurationError: as :func:`find`; or the list cannot be written.
    """
    project = find(root, patterns)
    key = hashlib.sha256(os.fsencode("\0".join([str(root), *sorted(patterns)]))).hexdigest()[:32]
    try:
        path = private_directory(state_directory() / "projects") / key
        _remove_old(path.parent)
        write(path, Listing(FOLDER, str(root), project.names))
    except OSError as error:
        raise ConfigurationError(f"the list of the project's files cannot be written: {error}") from error
    return str(path), project.lines()


def _remove_old(folder: Path) -> None:
    """Remove the lists of projects that were not brought for long."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run has removed it
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink()


def find(root: Path, patterns: Sequence[str] = ()) -> Project:
    """What is to be brought of the project.

    :param patterns: What to bring although git ignores it.
    :raises ConfigurationError: one line: the root directory is no project's, git refuses, a pattern matches nothing, a
        file cannot be read, or all is more than :data:`LIMIT_BYTES`.
    """
    _require_project(root)
    try:
        return _found(root, patterns)
    except OSError as error:  # of a path that is too long, for example
        name = os.fsdecode(str(error.filename)).removeprefix(f"{root}/")
        raise _unreadable(name, error.strerror) from error


def _found(root: Path, patterns: Sequence[str]) -> Project:
    project = Project()
    asked = _asked(root, patterns)
    given = _given(root, project, asked)
    if len(given) > files.MOST_FILES:  # it takes long to look at each
        require_size(dict.fromkeys(set(given).difference(asked), 0), LIMIT_BYTES, files.MOST_FILES)
    sizes: dict[str, int] = {}
    links: dict[str, bool] = {}
    odd: list[str] = []
    for name, is_asked in {**dict.fromkeys(given, False), **dict.fromkeys(asked, True)}.items():
        try:
            status = os.lstat(f"{root}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue  # git tracks it, and it is deleted
        except OSError as error:
            raise _unreadable(name, error.strerror) from error
        if stat.S_ISLNK(status.st_mode):
            links[name] = is_asked
        elif stat.S_ISREG(status.st_mode):
            if not os.access(f"{root}/{name}", os.R_OK):
                raise _unreadable(name, "Permission denied")
            project.names[name] = ""
            project.size += status.st_size
            if not is_asked:
                sizes[name] = status.st_size
        elif stat.S_ISDIR(status.st_mode):
            project.names[name] = ""  # an empty one
        else:
            odd.append(name)
    found = sort(root, links, project.names)
    project.names |= found.kept
    for name in found.followed:
        for entry in files.entries([(name, str(root / name))]):
            if not entry.is_directory:
                project.names[entry.name] = ""
                project.size += entry.size
    if found.out:
        project.notices.append(found.notice(root))
    if odd:
        project.notices.append(f"left out, since it is no file: {some(odd)}")
    require_size(sizes, LIMIT_BYTES, files.MOST_FILES)
    return project


def _require_project(root: Path) -> None:
    try:
        home = Path("~").expanduser().resolve()
    except (OSError, RuntimeError):  # there is none
        home = Path("/")
    if root.resolve() in (home, *home.parents):
        raise ConfigurationError(
            f"pytest's root directory {root} is your home directory, or holds it, and would be brought to the hosts: "
            "start pytest in the project's directory, or name that with --rootdir"
        )


def _given(root: Path, project: Project, asked: Container[str]) -> list[str]:
    """The names of what is brought unasked."""
    try:
        found = list(_of_repository(root, "", project))
        why = "" if found else "git ignores all that is in it"
    except git.NoRepository as none:
        why = str(none)
    if why:
        project.source = f"all in {root} but caches and environments such as __pycache__ and .venv ({why})"
        names = list(_walk(root, ""))
        secret = [name for name in names if _is_secret(name) and name not in asked]
        if secret:
            project.notices.append(
                f"left out, since such files are usually secret: {some(secret)}; "
                f"--vast-sync={shlex.quote(glob.escape(secret[0]))} brings it"
            )
        return [name for name in names if not _is_secret(name)]
    commit, differ = git.commit(root)
    tracked = [name for name, is_tracked in found if is_tracked]
    untracked = _without_litter([name for name, is_tracked in found if not is_tracked])
    differ += len(untracked)
    project.source = f"commit {commit}" if commit else "no commit yet"
    if commit and differ:
        project.source += f", and {count(differ, 'file')} that {'differs' if differ == 1 else 'differ'} from it"
    return [*tracked, *untracked]


def _of_repository(root: Path, below: str, project: Project) -> Iterator[tuple[str, bool]]:
    """The names of a repository's files, and whether it tracks them; with those of repositories in it."""
    listed = git.listed(root / below)
    yield from ((below + name, True) for name in listed.tracked)
    yield from ((below + name, False) for name in listed.untracked)
    for name in listed.repositories:
        inside = f"{below}{name}/"
        if (root / inside / ".git").exists():
            yield from _of_repository(root, inside, project)
        elif (root / below / name).exists():
            where = f"-C {shlex.quote(below)} " if below else ""
            project.notices.append(
                f"submodule {below}{name} is not initialised here, so it is not brought: git {where}submodule update "
                f"--init {shlex.quote(name)}"
            )


def _is_secret(name: str) -> bool:
    return any(fnmatchcase(part, pattern) for part in name.split("/") for pattern in SECRETS)


def _without_litter(names: Sequence[str]) -> list[str]:
    venvs = tuple(name.removesuffix(_VENV) for name in names if name.endswith(f"/{_VENV}"))
    return [name for name in names if not (_is_litter(name) or name.startswith(venvs))]


def _is_litter(name: str, but: Iterable[str] = ()) -> bool:
    compiled = name.endswith(".pyc") and not any(part.endswith(".pyc") for part in but)
    return compiled or not LITTER.isdisjoint(set(name.split("/")).difference(but))


def _walk(root: Path, below: str, *, litter: bool = False) -> Iterator[str]:
    """The names of all files and links in a directory, and of empty directories in it.

    :param litter: Whether litter comes, too.
    """
    try:
        found = sorted(os.scandir(root / below), key=lambda each: each.name)
    except OSError as error:
        raise _unreadable(below, error.strerror) from error
    if not found and below:
        yield below.rstrip("/")
    for each in found:
        name = f"{below}{each.name}"
        if not litter and _is_litter(each.name):
            continue
        if not each.is_dir(follow_symlinks=False):
            yield name
        elif litter or not (root / name / _VENV).exists():
            yield from _walk(root, f"{name}/", litter=litter)


def _real(root: Path, name: str) -> str:
    """The path of a match that leads through no link within the project, which is brought as a link itself."""
    above, _, last = name.rpartition("/")
    real = os.path.relpath(os.path.realpath(root / above), os.path.realpath(root))
    return name if not above or real.startswith("..") else f"{real}/{last}".removeprefix("./")


def _asked(root: Path, patterns: Iterable[str]) -> dict[str, None]:
    """The names of what patterns match, and of what is in directories among that."""
    found: dict[str, None] = {}
    for pattern in patterns:
        parts = PurePosixPath(pattern).parts
        if pattern.startswith("/") or ".." in parts:
            raise ConfigurationError(f"--vast-sync: {pattern!r} must be relative to {root}, and stay in it")
        matches = [root] if not parts else sorted(root.glob("/".join(parts)))
        names = [path.relative_to(root).as_posix() for path in matches]
        names = [name for name in names if not _is_litter(name, but=parts)]
        if not names:
            raise ConfigurationError(f"--vast-sync: nothing in {root} matches {pattern!r}; correct it, or leave it out")
        for name in (_real(root, name) for name in names):
            if (root / name).is_dir() and not (root / name).is_symlink():
                below, litter = "" if name == "." else f"{name}/", not LITTER.isdisjoint(parts)
                found.update(dict.fromkeys(_walk(root, below, litter=litter)))
            else:
                found[name] = None
    return found


def _unreadable(name: str, why: str | None) -> ConfigurationError:
    shown = sanitize.line(name, 200)
    mend = "shorten it" if why == os.strerror(errno.ENAMETOOLONG) else "make it readable"
    return ConfigurationError(f"{shown} cannot be read ({why}): {mend}, or leave it out (.gitignore, --vast-sync)")
