"""The local files that a workload brings along: what is taken, with which modes, and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vastgpu import command
from pytest_vastgpu import llamacpp
from pytest_vastgpu import triton
from pytest_vastgpu import vllm
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers import files
from pytest_vastgpu.servers.archive import packed
from pytest_vastgpu.servers.compression import compressed
from pytest_vastgpu.servers.files import entries
from pytest_vastgpu.servers.files import require_room
from pytest_vastgpu.supervisor.rental.server import job


def archive(workload: Workload) -> bytes:
    return b"".join(compressed(packed(entries(workload.files))))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with whatever directories have."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.txt").write_text("far")
    root = tmp_path / "my app"
    (root / "empty").mkdir(parents=True)
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / "sub" / ".venv").mkdir(parents=True)
    (root / "old.pyc").write_bytes(b"x")
    (root / "plain.txt").write_text("plain")
    (root / "sub" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (root / "sub" / "run.sh").chmod(0o755)
    (root / "sub" / "näme $x 'y'").write_text("odd")
    (root / "link.txt").symlink_to("plain.txt")
    (root / "far").symlink_to(tmp_path / "elsewhere")
    return root


def test_a_directory_is_brought_with_all_that_is_below_it(tree: Path, tmp_path: Path) -> None:
    """Unpacked by the very command that an instance runs."""
    workload = command("true", files={"app": tree, "one.txt": tree / "plain.txt", "deep/er/two.txt": tree / "link.txt"})
    home = tmp_path / "home"
    home.mkdir()
    for line in (job.MAKE_FOLDERS, job.UNPACK):
        subprocess.run(["sh", "-c", line], cwd=home, input=archive(workload), check=True)
    work = home / job.WORK
    found = {str(path.relative_to(work)): path for path in work.rglob("*")}
    assert {name for name, path in found.items() if path.is_dir()} == {
        "app",
        "app/empty",
        "app/sub",
        "app/far",
        "deep",
        "deep/er",
    }
    assert {
        name: (path.read_text(), path.stat().st_mode & 0o777) for name, path in found.items() if path.is_file()
    } == {
        "app/plain.txt": ("plain", 0o600),
        "app/link.txt": ("plain", 0o600),
        "app/far/far.txt": ("far", 0o600),
        "app/sub/run.sh": ("#!/bin/sh\necho ran\n", 0o700),
        "app/sub/näme $x 'y'": ("odd", 0o600),
        "one.txt": ("plain", 0o700),
        "deep/er/two.txt": ("plain", 0o700),
    }
    assert not any(path.is_symlink() for path in found.values())


def test_files_are_removed_by_their_names_whatever_they_are(tree: Path, tmp_path: Path) -> None:
    (tmp_path / job.WORK).mkdir(parents=True)
    names = ["-rf", "näme $x 'y'", "two\nlines"]
    for name in [*names, "stays"]:
        (tmp_path / job.WORK / name).touch()
    told = b"".join(os.fsencode(name) + b"\0" for name in [*names, "is not there"])
    subprocess.run(["sh", "-c", job.REMOVE], cwd=tmp_path, input=told, check=True)
    assert [path.name for path in (tmp_path / job.WORK).iterdir()] == ["stays"]


def test_a_directory_may_be_the_whole_working_directory(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(command("x", files={".": tree})))) as tar:
        assert "plain.txt" in tar.getnames()


def test_every_builder_brings_files(tree: Path) -> None:
    assert vllm("m", files={"app": str(tree)}).files == command("x", files={"app": tree}).files == (("app", str(tree)),)


def test_what_cannot_be_brought_is_told_when_the_workload_is_built(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(ConfigurationError) as raised:
            command("x", files={"app": path})
        (line,) = str(raised.value).splitlines()
        return line

    assert "nowhere (for 'app') cannot be read (No such file or directory); give the path" in refused(tree / "nowhere")
    (tree / "dangling").symlink_to("nowhere")
    assert f"{tree}/dangling (for 'app/dangling') cannot be read" in refused(tree)
    (tree / "dangling").unlink()
    (tree / "sub" / "up").symlink_to("..")
    assert "sub/up (for 'app/sub/up') is a link to a directory that it is in" in refused(tree)
    (tree / "sub" / "up").unlink()
    os.mkfifo(tree / "pipe")
    assert "pipe (for 'app/pipe') is neither a file nor a directory" in refused(tree)
    (tree / "pipe").unlink()
    monkeypatch.setattr(files, "MOST_FILES", 5)
    assert "makes them more than 5 files and directories together, the most that is brought along" in refused(tree)


@pytest.mark.parametrize(
    "build",
    [
        lambda: command("x", files={"app": "~no-such-user/app"}),
        lambda: llamacpp("~no-such-user/tiny.gguf"),
        lambda: triton(Path("~no-such-user/models")),
    ],
)
def test_a_home_directory_that_there_is_not_is_told(build: Callable[[], Workload]) -> None:
    with pytest.raises(ConfigurationError, match="leads nowhere"):
        build()


@pytest.mark.parametrize("what", [".", "..", "../.."])
def test_a_home_directory_is_not_brought_by_mistake(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "me"
    (home / "app").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "link").symlink_to(home / what)
    with pytest.raises(ConfigurationError, match=r"is your home directory, or holds it; name the directories in it"):
        command("x", files={"app": tmp_path / "link"})
    assert command("x", files={"app": home / "app"}).files


def test_files_that_do_not_fit_onto_the_disk_are_told_with_what_would_do(tmp_path: Path) -> None:
    for name, size in (("small", 10), ("model.gguf", 20_300_000_000)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    workload = command("x", files={"m": tmp_path})
    with pytest.raises(ConfigurationError) as raised:
        require_room(entries(workload.files), workload.disk_gb)
    assert str(raised.value) == (
        "files: they have 20.3 GB, the largest is 'm/model.gguf' with 20.3 GB, and disk_gb=16 is less: give the "
        "workload disk_gb=22 or more, or bring less"
    )
    require_room(entries(workload.files), 22)


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a/b"],
        ["a", "a/b/c"],
        ["./a/b", "a"],
        ["."],
        ["x" * 256],
        ["/".join(["d" * 200] * 30)],
        ["a/app", "a/app/b"],
    ],
)
def test_names_that_no_machine_can_have_are_refused_before_one_is_blamed(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match=r"files: .*(rename one|a shorter one|give it a name)") as raised:
        command("true", files=dict.fromkeys(names, tmp_path / "file"))
    assert "\n" not in str(raised.value)


def test_a_file_in_place_of_one_of_a_directory_comes_once(tmp_path: Path) -> None:
    """Else the second start would bring the one that was replaced."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "settings").write_text("theirs")
    (tmp_path / "settings").write_text("mine")
    workload = command("true", files={"app": tmp_path / "app", "app/settings": tmp_path / "settings"})
    assert [(entry.name, Path(entry.path).read_text()) for entry in entries(workload.files) if entry.size] == [
        ("app/settings", "mine")
    ]


def test_a_path_with_a_line_break_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        command("true", files={"a": tmp_path / "b\nc"})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["~no-such-user/x", Path("~no-such-user/x")])
def test_a_home_that_is_not_there_is_one_line(path: str | Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'~no-such-user/x' leads nowhere .*; give an absolute path"):
        files.local_files({"x": path})
