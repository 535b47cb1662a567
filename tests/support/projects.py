"""Projects of users, in repositories of git, for tests of what is brought of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin import git as git_module
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.project import find

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def own_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A git that knows nothing of this machine, and a home of the test's own."""
    for name in git_module.OF_ANOTHER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def git(folder: Path, *arguments: str) -> None:
    own = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "protocol.file.allow=always", "-c", "commit.gpgsign=no"]
    subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True)


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def too_deep(folder: Path) -> None:
    """Make directories in directories until no system call takes the path, and a file in the last."""
    name = "d" * 100
    inner = os.open(folder, os.O_DIRECTORY)
    for _ in range(os.pathconf(folder, "PC_PATH_MAX") // len(name) + 1):
        os.mkdir(name, dir_fd=inner)
        outer, inner = inner, os.open(name, os.O_DIRECTORY, dir_fd=inner)
        os.close(outer)
    os.close(os.open("deep.txt", os.O_CREAT, dir_fd=inner))
    os.close(inner)


def commit(root: Path) -> None:
    if not (root / ".git").exists():
        git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")


@pytest.fixture
def root(own_git: None, tmp_path: Path) -> Path:
    """The root directory of a project; not a repository yet."""
    made = tmp_path / "my project"
    put(made / ".gitignore", "build/\n*.log\n")
    put(made / "pkg" / "a.py")
    put(made / "build" / "lib.so")
    put(made / "build" / "deep" / "er.so")
    put(made / "run.log")
    return made


def names(found: project.Project) -> set[str]:
    return set(found.names)


def refused(root: Path, *patterns: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        find(root, patterns)
    (line,) = str(raised.value).splitlines()
    return line
