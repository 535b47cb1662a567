"""Directories in places where everybody may write."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vastgpu.core.directories import LONGEST_SOCKET_PATH
from pytest_vastgpu.core.directories import fresh_directory
from pytest_vastgpu.core.directories import is_private
from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.directories import shared_by_own_processes
from pytest_vastgpu.core.directories import socket_directory

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")


def somebody_elses(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def open_to_the_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def a_link(path: Path) -> None:
    other = path.with_name("elsewhere")
    other.mkdir(mode=0o700)
    path.symlink_to(other)


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def a_circle(path: Path) -> None:
    path.symlink_to(path)


def a_file(path: Path) -> None:
    path.write_text("")


TRAPS = [
    pytest.param(somebody_elses, marks=as_root),
    open_to_all,
    open_to_the_group,
    a_link,
    a_link_to_nothing,
    a_circle,
    a_file,
]
Trap = Callable[[Path], None]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for everybody's temporary files."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    return shared


def test_processes_of_a_user_share_a_directory(shared: Path) -> None:
    first = shared_by_own_processes()
    assert first == shared / f"vastgpu-{os.geteuid()}"
    assert is_private(first)
    assert shared_by_own_processes() == first


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_found_in_a_shared_place_is_not_adopted(shared: Path, trap: Trap) -> None:
    found = shared / f"vastgpu-{os.geteuid()}"
    trap(found)
    before = found.lstat()
    assert shared_by_own_processes() is None
    assert found.lstat().st_mode == before.st_mode
    assert is_private(fresh_directory("market"))
    assert fresh_directory("market") != fresh_directory("market")


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_a_directory_that_is_made_is_the_users_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = private_directory(tmp_path / "new" / "state")
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_directory_of_the_users_own_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    assert is_private(private_directory(tmp_path / "state"))


def test_a_link_of_the_users_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert private_directory(tmp_path / "link") == tmp_path / "disk"
    assert is_private(tmp_path / "disk")


@pytest.mark.parametrize(
    ("trap", "why"),
    [
        pytest.param(somebody_elses, f"belongs to user {NOBODY}", marks=as_root),
        (open_to_all, "everybody may write to it"),
        (a_circle, "Not a directory"),
        (a_file, "Not a directory"),
    ],
)
def test_what_a_user_named_is_refused_in_words(tmp_path: Path, trap: Trap, why: str) -> None:
    trap(tmp_path / "state")
    with pytest.raises(OSError, match=why):
        private_directory(tmp_path / "state")


@as_root
def test_a_link_that_somebody_else_has_laid_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o755)
    (tmp_path / "state").symlink_to(tmp_path / "mine")
    os.lchown(tmp_path / "state", NOBODY, NOBODY)
    with pytest.raises(OSError, match="Not a directory"):
        private_directory(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o755


def test_sockets_get_a_short_path_however_long_that_of_temporary_files_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path(tempfile.mkdtemp())
    long = tmp_path / ("long" * 50)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    made = [socket_directory()]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    made.append(socket_directory())
    assert made[1].parent == runtime
    runtime.chmod(0o755)
    made.append(socket_directory())
    assert made[2].parent != runtime, "it is not the user's alone"
    for each in made:
        assert is_private(each)
        assert len(str(each / "api.sock")) <= LONGEST_SOCKET_PATH
        each.rmdir()
    runtime.rmdir()
