"""Files on their way: read while they are sent, told apart without being read, and never sent half changed."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers import archive
from pytest_vastgpu.servers.archive import Brought
from pytest_vastgpu.servers.archive import batches
from pytest_vastgpu.servers.archive import differing
from pytest_vastgpu.servers.archive import packed
from pytest_vastgpu.servers.archive import same
from pytest_vastgpu.servers.files import Entry
from pytest_vastgpu.servers.files import entries

LONG_AGO = 1_600_000_000


def found(tree: Path) -> list[Entry]:
    return entries([("m", str(tree))])


def brought(tree: Path) -> dict[str, Brought]:
    there: dict[str, Brought] = {}
    for _ in packed(found(tree), there.__setitem__):
        pass
    return there


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "config.json").write_text("{}")
    (root / "sub" / "weights").write_bytes(os.urandom(3 * archive.PART_BYTES + 7))
    return root


def test_an_archive_is_read_while_it_is_sent(tree: Path) -> None:
    parts: list[bytes] = []
    read: list[int] = []
    for part in packed(found(tree), read=read.append):
        parts.append(part)
        assert len(part) <= archive.PART_BYTES
    assert sum(read) == 2 + 3 * archive.PART_BYTES + 7
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
        file = tar.extractfile("m/sub/weights")
        assert file is not None
        assert file.read() == (tree / "sub" / "weights").read_bytes()
        assert tar.getmember("m/config.json").mtime == int((tree / "config.json").stat().st_mtime)


def test_a_name_may_be_long_and_no_text(tmp_path: Path) -> None:
    name = b"\xff" + b"x" * 150
    (tmp_path / os.fsdecode(name)).write_text("it")
    data = b"".join(packed(entries([("m", str(tmp_path))])))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [os.fsencode(member) for member in tar.getnames()] == [b"m", b"m/" + name]


def test_a_large_file_is_an_archive_of_its_own(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a.txt").write_text("a")
    (tree / "z.txt").write_text("z")
    monkeypatch.setattr(archive, "BATCH_BYTES", archive.PART_BYTES)
    names = [[entry.name for entry in group] for group in batches(found(tree))]
    assert names == [["m", "m/a.txt", "m/config.json", "m/sub"], ["m/sub/weights"], ["m/z.txt"]]
    assert list(batches([])) == []


def test_what_differs_is_content_and_mode_and_nothing_else(tree: Path) -> None:
    there = brought(tree)
    assert differing(found(tree), there) == []
    os.utime(tree / "config.json", (LONG_AGO, LONG_AGO))
    assert differing(found(tree), there) == [], "it was touched only"
    (tree / "config.json").write_text("[]")
    (tree / "sub" / "weights").chmod(0o755)
    (tree / "new").touch()
    assert differing(found(tree), there) == ["m/config.json", "m/new", "m/sub/weights"]
    (tree / "config.json").unlink()
    assert "m/config.json" in differing(found(tree), there)


def test_a_file_is_not_read_again_to_tell_that_it_is_the_same(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_SETTLED_NS", -(10**18))  # as if it had been written long ago
    there = brought(tree)
    monkeypatch.setattr(archive, "_content", lambda entry: pytest.fail(f"{entry.name} is read"))
    assert differing(found(tree), there) == []


def test_a_file_that_was_written_a_moment_ago_is_read_again(tree: Path) -> None:
    """The clock of a file system may stand still between two writes."""
    there = brought(tree)["m/config.json"]
    assert there.stamp is None
    (tree / "config.json").write_text("[]")
    (entry,) = (each for each in found(tree) if each.name == "m/config.json")
    assert not same(entry, there)


def test_a_file_that_changes_or_shrinks_while_it_is_sent_is_one_clear_line(tree: Path) -> None:
    def told(at: int, change: str) -> str:
        seen = 0

        def read(length: int) -> None:
            nonlocal seen
            seen += length
            if seen >= at > seen - length:
                with (tree / "sub" / "weights").open("r+b") as file:
                    file.truncate(5) if change == "shrinks" else file.write(b"new")

        with pytest.raises(ConfigurationError) as raised:
            list(packed(found(tree), read=read))
        (line,) = str(raised.value).splitlines()
        return line

    before = (tree / "sub" / "weights").stat().st_size
    assert "(for 'm/sub/weights') changed while it was brought: it was written to; run again" in told(100_000, "")
    line = told(300_000, "shrinks")
    assert f"changed while it was brought: it had {before} bytes and has 5" in line
    stale = found(tree)
    (tree / "config.json").unlink()
    with pytest.raises(ConfigurationError, match=r"config.json \(for 'm/config.json'\) cannot be read \(No such file"):
        list(packed(stale))
    os.mkfifo(tree / "config.json")  # it would be waited for, if it were opened as usual
    with pytest.raises(ConfigurationError, match=r"config.json \(for 'm/config.json'\) changed while it was brought"):
        list(packed(stale))
