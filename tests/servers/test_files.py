"""The local files that a workload brings along: what is taken, with which modes, and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pytest_vastgpu import command
from pytest_vastgpu import vllm
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers import files
from pytest_vastgpu.servers.files import contents
from pytest_vastgpu.servers.files import entries
from pytest_vastgpu.servers.files import packed
from pytest_vastgpu.supervisor.rental.server import job


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
        subprocess.run(["sh", "-c", line], cwd=home, input=packed(workload.files), check=True)
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


def test_a_digest_changes_with_content_and_mode_and_with_nothing_else(tree: Path) -> None:
    def seen() -> dict[str, str]:
        return contents(packed(command("x", files={"app": tree}).files))

    before = seen()
    assert before.keys() >= {"app/plain.txt", "app/sub/run.sh"}
    (tree / "plain.txt").touch()
    assert seen() == before
    (tree / "plain.txt").write_text("PLAIN")
    (tree / "sub" / "run.sh").chmod(0o644)
    (tree / "new").touch()
    after = seen()
    differ = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert differ == {"app/plain.txt", "app/link.txt", "app/sub/run.sh", "app/new"}


def test_files_are_removed_by_their_names_whatever_they_are(tree: Path, tmp_path: Path) -> None:
    (tmp_path / job.WORK).mkdir(parents=True)
    names = ["-rf", "näme $x 'y'", "two\nlines"]
    for name in [*names, "stays"]:
        (tmp_path / job.WORK / name).touch()
    told = b"".join(os.fsencode(name) + b"\0" for name in [*names, "is not there"])
    subprocess.run(["sh", "-c", job.REMOVE], cwd=tmp_path, input=told, check=True)
    assert [path.name for path in (tmp_path / job.WORK).iterdir()] == ["stays"]


def test_a_directory_may_be_the_whole_working_directory(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(command("x", files={".": tree}).files))) as archive:
        assert "./plain.txt" in archive.getnames()


def test_every_builder_brings_files(tree: Path) -> None:
    assert vllm("m", files={"app": str(tree)}).files == command("x", files={"app": tree}).files == (("app", str(tree)),)


def test_what_cannot_be_brought_is_told_when_the_workload_is_built(tree: Path, tmp_path: Path) -> None:
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
    with (tree / "huge").open("wb") as file:
        file.truncate(files.LIMIT_MB * 10**6)
    assert f"makes them more than {files.LIMIT_MB} MB together" in refused(tree)


def test_a_file_that_is_gone_when_it_is_sent_is_told(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_text("")
    workload = command("x", files={"it": path})
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        packed(workload.files)
    assert len(entries(())) == 0
