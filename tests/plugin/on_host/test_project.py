"""Which of a project's files are brought to a host, and what is told of it. git is real; nothing is rented."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host import git as git_module
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.project import find
from pytest_vastgpu.plugin.on_host.sizes import largest
from pytest_vastgpu.servers import files
from pytest_vastgpu.servers.listing import brought_by
from tests.support.lives import WORKLOAD

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A git that knows nothing of this machine, and a home of the test's own."""
    for name in git_module.OF_ANOTHER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def git(folder: Path, *arguments: str) -> None:
    own = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "protocol.file.allow=always", "-c", "commit.gpgsign=no"]
    subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True)


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def commit(root: Path) -> None:
    if not (root / ".git").exists():
        git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
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
    assert first == f"bringing 4 files, 0 kB: commit {whole[:9]}, and 4 files that differ from it"
    assert not rest


@needs_git
def test_a_repository_without_a_commit_is_one(root: Path) -> None:
    git(root, "init", "-q")
    assert find(root).source == "no commit yet, and 2 files that differ from it"
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
@pytest.mark.parametrize(
    ("patterns", "more"),
    [
        (["build"], {"build/lib.so", "build/deep/er.so"}),
        (["build/"], {"build/lib.so", "build/deep/er.so"}),
        (["**/*.so"], {"build/lib.so", "build/deep/er.so"}),
        (["build/*.so", "*.log"], {"build/lib.so", "run.log"}),
        (["build/**"], {"build/lib.so", "build/deep/er.so"}),
        (["."], {"build/lib.so", "build/deep/er.so", "run.log"}),
        (["pkg/__pycache__"], {"pkg/__pycache__/a.pyc"}),
        (["pkg/**/*.pyc"], set()),
        (["empty"], {"empty"}),
    ],
)
def test_a_pattern_brings_what_git_ignores(root: Path, patterns: list[str], more: set[str]) -> None:
    commit(root)
    put(root / "pkg" / "__pycache__" / "a.pyc")
    (root / "empty").mkdir()
    if more:
        extra = {"empty"} if "." in patterns else set()
        assert names(find(root, patterns)) == {".gitignore", "pkg/a.py", *more, *extra}
    else:
        assert "nothing in" in refused(root, *patterns)


def test_a_pattern_that_means_nothing_is_a_usage_error(root: Path) -> None:
    assert f"--vast-sync: nothing in {root} matches 'buidl/*'; correct it, or leave it out" in refused(root, "buidl/*")
    for pattern in ("/etc", "../other", "a/../../b"):
        assert f"{pattern!r} must be relative to {root}, and stay in it" in refused(root, pattern)


@pytest.mark.parametrize("why", ["no git repository", "git cannot be run: No such file or directory"])
def test_without_git_all_is_brought_but_litter(root: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "run" in why:
        monkeypatch.setenv("PATH", str(root))
    elif shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in (
        ".venv/x",
        "env/pyvenv.cfg",
        "env/x",
        "pkg/__pycache__/a.pyc",
        "c.pyc",
        ".git/config",
        "node_modules/x",
    ):
        put(root / name)
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
        f"bringing 6 files, 0 kB: all in {root} but caches and environments such as __pycache__ and .venv ({why})",
        "left out, since it is no file: fifo, socket",
    ]


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
    put(root / "next" / "n.py")
    commit(root / "next")
    git(root, "add", "next")
    shutil.rmtree(root / "next" / ".git")
    put(root / "next" / ".git", "gitdir: /no/where\n")  # as of a submodule that was copied
    assert {name for name in find(root).names if name.startswith("ne")} == {
        "nested/.gitignore",
        "nested/n.py",
        "new/n.py",
        "new/tree/.gitignore",
        "new/tree/pkg/a.py",
        "next/n.py",
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
def test_links_lead_where_they_lead_here(root: Path, tmp_path: Path) -> None:
    far = put(tmp_path / "far" / "data.bin", "far").parent
    links = {
        "relative": "pkg/a.py",
        "pkg/up": "../run.log",
        "directory": "pkg",
        "absolute": str(root / "pkg" / "a.py"),
        "around": f"../{root.name}/pkg",
        "chain": "relative",
        "nowhere": "no/such/file",
        "pkg/out": "../../far",
        "out": str(far),
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    commit(root)
    found = find(root)
    assert {name: link for name, link in found.names.items() if link} == {
        **{name: links[name] for name in ("relative", "pkg/up", "directory", "chain", "nowhere")},
        "absolute": "pkg/a.py",
        "around": "pkg",
    }
    assert found.notices == [
        f"left out: 2 links that lead out of the project, such as out -> {far}; --vast-sync=out brings what it leads to"
    ]
    asked = find(root, ["out"])
    assert asked.names["out/data.bin"] == ""
    assert asked.size == found.size + 3
    assert asked.notices == [
        "left out: a link that leads out of the project, pkg/out -> ../../far; "
        "--vast-sync=pkg/out brings what it leads to"
    ]
    assert find(root, ["out", "pkg/out"]).names["pkg/out/data.bin"] == ""


@needs_git
def test_a_link_that_is_asked_for_comes_as_a_file_where_its_target_does_not_come(root: Path) -> None:
    """Caches of models have their files elsewhere, with links to them."""
    put(root / "cache" / "blobs" / "1", "blob")
    put(root / "cache" / "kept" / "a")
    (root / "cache" / "kept" / "b").symlink_to("../blobs/1")
    (root / "cache" / "kept" / "c").symlink_to("a")
    put(root / ".gitignore", "cache\n")
    commit(root)
    assert find(root, ["cache/kept"]).names == {
        ".gitignore": "",
        "pkg/a.py": "",
        "build/lib.so": "",
        "build/deep/er.so": "",
        "run.log": "",
        "cache/kept/a": "",
        "cache/kept/b": "",
        "cache/kept/c": "a",
    }
    assert find(root, ["cache"]).names["cache/kept/b"] == "../blobs/1"


@needs_git
def test_what_is_asked_for_through_a_link_is_brought_where_it_is(root: Path) -> None:
    (root / "pkg" / "link").symlink_to("../build")
    (root / "top").symlink_to(".")
    commit(root)
    found = find(root, ["pkg/link/*.so", "top/*.log"])
    assert found.names == {
        ".gitignore": "",
        "pkg/a.py": "",
        "pkg/link": "../build",
        "top": ".",
        "build/lib.so": "",
        "run.log": "",
    }


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


def test_a_home_directory_or_the_whole_disk_is_no_project(tmp_path: Path) -> None:
    for root in (tmp_path / "home", tmp_path, Path("/")):
        assert f"root directory {root} is your home directory, or holds it, and would be brought" in refused(root)


def test_a_file_that_may_not_be_read_is_told_before_anything_is_rented(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("a.py") and access(path, mode))
    assert refused(root) == "pkg/a.py cannot be read (Permission denied): make it readable, or put it into .gitignore"


@needs_git
def test_more_than_the_limit_is_refused_with_what_is_large_unless_it_is_asked_for(root: Path) -> None:
    for name, size in (("data/raw/a.bin", 150), ("data/raw/b.bin", 60), ("weights.bin", 30), ("pkg/small", 1)):
        put(root / name)
        os.truncate(root / name, size * 10**6)
    git(root, "init", "-q")
    assert refused(root) == (
        "the project has 241.0 MB to bring, more than 200.0 MB, most of it in data/raw (210.0 MB), weights.bin (30.0 "
        "MB): put that into .gitignore; download it there in --vast-setup; or say "
        "--vast-sync=data/raw to bring it all the same"
    )
    found = find(root, ["data/raw"])
    assert found.size == 241_000_000 + len("build/\n*.log\n") + 1


@needs_git
def test_more_files_than_can_be_brought_are_refused_in_the_same_way(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        put(root / "untracked" / f"{number}.txt")
    git(root, "init", "-q")
    monkeypatch.setattr(files, "MOST_FILES", 10)
    assert "the project has 22 files to bring, more than 10, most of it in untracked (20), " in refused(root)
    assert len(find(root, ["untracked"]).names) == 22


def test_the_largest_things_are_named_as_deep_as_they_are_nearly_all_of_it() -> None:
    sizes = {"a/b/c": 90, "a/b/d": 5, "a/e": 5, "f/g": 40, "f/h": 40, "i": 1, "j": 0}
    assert largest(sizes) == [("a/b/c", 90), ("f", 80)]


@needs_git
def test_a_list_gives_what_is_there_when_the_files_are_brought(root: Path) -> None:
    put(root / "tool").chmod(0o755)
    put(root / "gone")
    put(root / "becomes a pipe")
    (root / "link").symlink_to("tool")
    commit(root)
    path, _ = project.listing(root, ())
    (root / "gone").unlink()
    (root / "becomes a pipe").unlink()
    os.mkfifo(root / "becomes a pipe")
    put(root / "pkg" / "a.py", "longer now")
    found = {entry.name: entry for entry in brought_by(replace(WORKLOAD, listing=path))}
    assert {name: (entry.mode, entry.size, entry.link) for name, entry in found.items()} == {
        "project/.gitignore": (0o600, 13, ""),
        "project/link": (0o777, 0, "tool"),
        "project/pkg/a.py": (0o600, 10, ""),
        "project/tool": (0o700, 1, ""),
    }


@needs_git
def test_equal_projects_make_equal_workloads_whatever_is_in_them(root: Path) -> None:
    """So that a warm host serves the next run, and brings only what has changed."""
    commit(root)
    path, _ = project.listing(root, ())
    put(root / "new.py")
    assert project.listing(root, ())[0] == path
    assert "project/new.py" in {entry.name for entry in brought_by(replace(WORKLOAD, listing=path))}
    assert project.listing(root, ("build",))[0] != path


def test_a_list_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^the list of files .* cannot be read \(No such file .*: run again$"):
        brought_by(replace(WORKLOAD, listing=str(tmp_path / "gone")))
