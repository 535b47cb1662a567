"""What patterns bring of a project, how links are brought, how large a project may be, and its list of files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.project import find
from pytest_vastgpu.plugin.on_host.sizes import largest
from pytest_vastgpu.servers import files
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


def test_lists_of_projects_that_were_not_brought_for_long_are_removed(root: Path) -> None:
    old = Path(project.listing(root, ())[0])
    os.utime(old, (0, 0))
    recent = Path(project.listing(root, ("build",))[0])
    newest = Path(project.listing(root, ("run.log",))[0])
    assert set(newest.parent.iterdir()) == {recent, newest}


def test_a_list_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^the list of files .* cannot be read \(No such file .*: run again$"):
        brought_by(replace(WORKLOAD, listing=str(tmp_path / "gone")))


def test_a_list_that_cannot_be_written_is_one_line(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "home" / ".local", "a file")
    with pytest.raises(ConfigurationError, match=r"^the list of the project's files cannot be written: .*$"):
        project.listing(root, ())


@needs_git
def test_what_git_knows_is_brought_where_a_pattern_says_so(root: Path) -> None:
    commit(root)
    assert {".git/HEAD", ".git/index", "pkg/a.py"} <= names(find(root, [".git"]))
