"""Which of a project's files are brought to a host, and what is told of it. git is real; nothing is rented."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.project import find
from pytest_vastgpu.servers.listing import brought_by
from tests.support.lives import WORKLOAD
from tests.support.projects import commit
from tests.support.projects import git
from tests.support.projects import names
from tests.support.projects import needs_git
from tests.support.projects import own_git as own_git
from tests.support.projects import put
from tests.support.projects import refused
from tests.support.projects import root as root
from tests.support.projects import too_deep


@needs_git
def test_what_git_tracks_and_does_not_ignore_is_brought_as_it_is_now(root: Path) -> None:
    put(root / "gone.py")
    put(root / "becomes" / "file")
    put(root / "becomes_folder")
    commit(root)
    assert find(root).source.startswith("commit ")
    assert "differ" not in find(root).source
    (root / "gone.py").unlink()
    put(root / "new.py")
    shutil.rmtree(root / "becomes")
    put(root / "becomes")
    (root / "becomes_folder").unlink()
    put(root / "becomes_folder" / "inside")
    found = find(root)
    assert names(found) - {"becomes_folder"} == {".gitignore", "pkg/a.py", "new.py", "becomes", "becomes_folder/inside"}
    assert found.size == len("build/\n*.log\n") + 4


@needs_git
def test_a_dirty_tree_is_told_in_one_line(root: Path) -> None:
    put(root / "old_name.py", "it is long enough to be seen as renamed\n" * 9)
    put(root / "gone.py")
    commit(root)
    whole = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True).stdout
    put(root / "pkg" / "a.py", "changed")
    (root / "gone.py").unlink()
    git(root, "mv", "old_name.py", "new_name.py")
    put(root / "new.py")
    first, *rest = find(root).lines()
    assert first == f"bringing 4 files, 381 bytes: commit {whole[:9]}, and 4 files that differ from it"
    assert not rest


@needs_git
def test_a_repository_without_a_commit_is_one(root: Path) -> None:
    git(root, "init", "-q")
    assert find(root).source == "no commit yet"
    assert names(find(root)) == {".gitignore", "pkg/a.py"}


@needs_git
def test_names_may_hold_anything(root: Path) -> None:
    odd = ["two\nlines", 'it\'s "quoted"', "tab\there", "näme", os.fsdecode(b"no \xff utf-8"), " ", "-n", "? x", "*"]
    for name in odd[::2]:
        put(root / name)
    commit(root)
    for name in odd[1::2]:
        put(root / name)
    path, lines = project.listing(root, ())
    assert names(find(root)) == {*odd, ".gitignore", "pkg/a.py"}
    there = {entry.name.removeprefix("project/") for entry in brought_by(replace(WORKLOAD, listing=path))}
    assert there == {*odd, ".gitignore", "pkg/a.py"}
    assert all(line.isprintable() for line in lines)


@needs_git
def test_caches_and_environments_that_nobody_ignores_stay_here(root: Path) -> None:
    put(root / "node_modules" / "tracked.js")
    commit(root)
    for name in ("pkg/__pycache__/a.pyc", "b.pyc", "node_modules/x.js", "env/pyvenv.cfg", "env/lib/x.py", "envy.py"):
        put(root / name)
    assert names(find(root)) == {".gitignore", "pkg/a.py", "node_modules/tracked.js", "envy.py"}


@needs_git
@pytest.mark.parametrize("repository", [True, False])
def test_what_an_earlier_run_has_left_stays_here(root: Path, repository: bool) -> None:
    if repository:
        commit(root)
    for name in ("vast-artifacts/run/1/server.log", "pkg/vast-artifacts/run/1/server.log", "vast-fetched/host-1/x"):
        put(root / name)
    found = find(root)
    assert not [name for name in names(found) if "vast-" in name]
    assert "differ" not in found.source


@pytest.mark.parametrize("why", ["no git repository", "git cannot be run: No such file or directory"])
def test_without_git_all_is_brought_but_litter(root: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "run" in why:
        monkeypatch.setenv("PATH", str(root))
    elif shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in (".venv/x", "env/pyvenv.cfg", "env/x", "pkg/__pycache__/a.pyc", "c.pyc", "node_modules/x"):
        put(root / name)
    if "run" in why:
        put(root / ".git" / "config")
    (root / "empty").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(root / "socket"))
        os.mkfifo(root / "fifo")
        found = find(root)
    assert names(found) == {
        ".gitignore",
        "pkg/a.py",
        "build/lib.so",
        "build/deep/er.so",
        "run.log",
        "empty",
    }
    assert found.lines() == [
        f"bringing 6 files, 17 bytes: all in {root} but caches and environments such as __pycache__ and .venv ({why})",
        "left out, since it is no file: fifo, socket",
    ]


@needs_git
@pytest.mark.parametrize("place", ["", "services/one"])
def test_a_broken_repository_is_an_error_and_nothing_that_it_ignores_is_brought(root: Path, place: str) -> None:
    put(root / "services" / "one" / "run.log")
    commit(root)
    put(root / ".git" / "HEAD", "garbage")
    assert refused(root / place) == (
        f"git does not list the files in {root / place}: fatal: not a git repository (or any of the parent "
        f"directories): .git; mend {root}/.git, or move it away: then all is brought, also what .gitignore names"
    )


@needs_git
def test_a_broken_repository_within_the_project_is_an_error_too(root: Path) -> None:
    put(root / "next" / "n.py")
    commit(root / "next")
    commit(root)
    shutil.rmtree(root / "next" / ".git")
    put(root / "next" / ".git", "gitdir: /no/where\n")  # as of a submodule that was copied
    line = refused(root)
    assert line.startswith(f"git does not list the files in {root}/next: fatal: not a git repository: /no/where; mend ")


def test_what_is_usually_secret_stays_here_where_no_git_says_what_is_ignored(root: Path) -> None:
    for name in (".env", ".env.local", "certs/key.pem", ".aws/credentials", "environment.py"):
        put(root / name)
    found = find(root)
    assert names(found) == {".gitignore", "pkg/a.py", "build/lib.so", "build/deep/er.so", "run.log", "environment.py"}
    assert found.lines()[1:] == [
        "left out, since such files are usually secret: .aws/credentials, .env, .env.local and 1 more; "
        "--vast-sync=.aws/credentials brings it"
    ]
    found = find(root, [".aws", "certs", ".env*"])
    assert {".env", ".env.local", "certs/key.pem", ".aws/credentials"} <= names(found)
    assert len(found.lines()) == 1


@needs_git
def test_a_project_that_a_repository_around_it_ignores_is_brought_all_the_same(root: Path) -> None:
    put(root / "build" / "playground" / "a.py")
    commit(root)
    found = find(root / "build" / "playground")
    assert names(found) == {"a.py"}
    assert found.source.endswith("(git ignores all that is in it)")


@needs_git
def test_of_a_larger_repository_only_the_part_of_the_root_directory_is_brought(root: Path) -> None:
    put(root / "services" / "one" / "a.py")
    commit(root)
    put(root / "pkg" / "a.py", "changed elsewhere")
    put(root / "services" / "one" / "b.py")
    found = find(root / "services" / "one")
    assert names(found) == {"a.py", "b.py"}
    assert found.source.endswith("and 1 file that differs from it")


@needs_git
def test_submodules_are_brought_with_what_is_new_in_them_and_an_empty_one_is_told(root: Path, tmp_path: Path) -> None:
    for name in ("inner", "outer"):
        put(tmp_path / name / f"{name}.py")
        git(tmp_path / name, "init", "-q")
    commit(tmp_path / "inner")
    git(tmp_path / "outer", "submodule", "--quiet", "add", str(tmp_path / "inner"), "deep")
    commit(tmp_path / "outer")
    git(root, "init", "-q")
    git(root, "submodule", "--quiet", "add", str(tmp_path / "outer"), "lib")
    git(root, "submodule", "--quiet", "add", str(tmp_path / "inner"), "other one")
    commit(root)
    put(root / "lib" / "new.py")
    git(root, "submodule", "deinit", "-f", "other one")
    found = find(root)
    own = {".gitignore", ".gitmodules", "pkg/a.py"}
    assert names(found) == {*own, "lib/.gitmodules", "lib/outer.py", "lib/new.py"}
    assert found.notices == [
        "submodule lib/deep is not initialised here, so it is not brought: git -C lib/ submodule update --init deep",
        "submodule other one is not initialised here, so it is not brought: git submodule update --init 'other one'",
    ]
    git(root / "lib", "submodule", "update", "--init", "deep")
    assert names(find(root)) == {*names(found), "lib/deep/inner.py"}


@needs_git
def test_a_repository_in_it_that_is_no_submodule_is_brought_by_its_own_rules(root: Path) -> None:
    put(root / "nested" / ".gitignore", "secret\n")
    put(root / "nested" / "secret")
    put(root / "nested" / "n.py")
    commit(root / "nested")
    commit(root)  # as a link to a commit, with a warning
    put(root / "new" / "n.py")
    commit(root / "new")
    git(root, "worktree", "add", "-q", "new/tree")
    assert {name for name in find(root).names if name.startswith("ne")} == {
        "nested/.gitignore",
        "nested/n.py",
        "new/n.py",
        "new/tree/.gitignore",
        "new/tree/pkg/a.py",
    }


@needs_git
def test_a_worktree_and_a_sparse_checkout_have_what_is_in_them(root: Path, tmp_path: Path) -> None:
    put(root / "far" / "b.py")
    commit(root)
    git(root, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert names(find(tmp_path / "tree")) == {".gitignore", "pkg/a.py", "far/b.py"}
    git(tmp_path / "tree", "sparse-checkout", "set", "pkg")
    found = find(tmp_path / "tree")
    assert names(found) == {".gitignore", "pkg/a.py"}
    assert "differ" not in found.source


@needs_git
def test_a_repository_that_git_does_not_trust_is_an_error_with_what_git_says(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(root)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    line = refused(root)
    assert line.startswith(f"git does not list the files in {root}: fatal: detected dubious ownership in repository at")
    assert "; run: git config --global --add safe.directory" in line


@needs_git
def test_variables_that_name_another_repository_do_not_count(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git sets them for its hooks, and a hook may run the tests."""
    put(tmp_path / "other" / "other.py")
    commit(tmp_path / "other")
    commit(root)
    before = find(root)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert find(root) == before


def test_a_home_directory_or_the_whole_disk_is_no_project(own_git: None, tmp_path: Path) -> None:
    for place in (tmp_path / "home", tmp_path, Path("/")):
        assert f"root directory {place} is your home directory, or holds it, and would be brought" in refused(place)


def test_a_file_that_may_not_be_read_is_told_before_anything_is_rented(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("a.py") and access(path, mode))
    assert refused(root) == (
        "pkg/a.py cannot be read (Permission denied): make it readable, or leave it out (.gitignore, --vast-sync)"
    )


@pytest.mark.parametrize("patterns", [["**"], ["pkg/**/*"], ["pkg"], ["."], []])
def test_a_path_that_is_too_long_is_one_line_that_names_it(root: Path, patterns: list[str]) -> None:
    too_deep(root / "pkg")
    line = refused(root, *patterns)
    assert line.startswith("pkg/ddd")
    assert line.endswith(" cannot be read (File name too long): shorten it, or leave it out (.gitignore, --vast-sync)")
    assert len(line) < 320
