"""Files on their way: read while they are sent, told apart without being read, and never sent half changed."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
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
from pytest_vastgpu.servers.files import Stamp
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


class Living:
    """Files that are written to while they are brought."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.known: dict[str, Brought] = {}
        self.torn: list[str] = []

    def entry(self, name: str, size: int) -> Entry:
        path = self.tree / name
        path.write_bytes(b"a" * size)
        return Entry(name, str(path), False, 0o600, size, Stamp.of(path.stat()), living=True)

    def bring(self, found: list[Entry], read: Callable[[int], object] = lambda _: None) -> dict[str, bytes]:
        """What is unpacked: the last one of those of one name."""
        data = b"".join(packed(found, self.known.__setitem__, read, self.torn.append))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


LARGE = 3 * archive.PART_BYTES


def test_a_log_that_grows_comes_as_it_was_when_it_was_opened(tree: Path) -> None:
    living = Living(tree)
    log = living.entry("log", LARGE)

    def grows(_length: int) -> None:
        with (tree / "log").open("ab") as file:
            file.write(b"more")

    assert living.bring([log], grows) == {"log": b"a" * LARGE}
    assert not living.torn
    assert living.known["log"].stamp is None, "it has changed since, so it is read when they are compared"
    now = (tree / "log").stat()
    assert not same(replace(log, size=now.st_size, stamp=Stamp.of(now)), living.known["log"])


def test_a_large_file_that_is_rewritten_is_sent_again(tree: Path) -> None:
    living = Living(tree)
    file, times = living.entry("state", LARGE), 0

    def rewritten(_length: int) -> None:
        nonlocal times
        times += 1
        if times == 2:
            (tree / "state").write_bytes(b"b" * 1000)

    assert living.bring([file], rewritten) == {"state": b"b" * 1000}
    assert not living.torn


def test_a_small_file_that_is_rewritten_is_read_again_before_it_is_sent(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = Living(tree)
    file, opened = living.entry("state", 100), []
    without_waiting = archive._without_waiting

    def opens(path: str, flags: int) -> int:
        opened.append(path)
        found = without_waiting(path, flags)
        if len(opened) == 1:
            monkeypatch.setattr(os, "fstat", once_changed)
        return found

    fstat = os.fstat

    def once_changed(number: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", fstat)
        before = fstat(number)
        (tree / "state").write_bytes(b"b" * 40)
        return before

    monkeypatch.setattr(archive, "_without_waiting", opens)
    assert living.bring([file]) == {"state": b"b" * 40}
    assert len(opened) == 2
    assert not living.torn


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_file_that_is_never_left_alone_comes_all_the_same_and_is_told(
    tree: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = Living(tree)
    file, fstat = living.entry("database", size), os.fstat

    def changes(number: int) -> os.stat_result:
        with (tree / "database").open("r+b") as out:
            out.write(os.urandom(10))
        os.utime(tree / "database", ns=(0, int.from_bytes(os.urandom(6), "big")))
        return fstat(number)

    monkeypatch.setattr(os, "fstat", changes)
    assert len(living.bring([file])["database"]) == size
    assert living.torn == ["database"]
    assert living.known["database"].stamp is None


def test_a_file_that_is_gone_or_something_else_by_now_is_left_out(tree: Path) -> None:
    living = Living(tree)
    found = [living.entry(name, 10) for name in ("stays", "gone", "pipe", "directory")]
    for name in ("gone", "pipe", "directory"):
        (tree / name).unlink()
    os.mkfifo(tree / "pipe")
    (tree / "directory").mkdir()
    assert living.bring(found) == {"stays": b"a" * 10}
    assert living.known.keys() == {"stays"}


def test_a_link_comes_as_a_link_and_differs_where_it_leads_elsewhere(tree: Path) -> None:
    (tree / "link").symlink_to("sub/weights")
    link = Entry("link", str(tree / "link"), False, 0o777, 0, Stamp.of((tree / "link").lstat()), "sub/weights")
    known: dict[str, Brought] = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(packed([link], known.__setitem__)))) as tar:
        assert [(member.issym(), member.linkname) for member in tar] == [(True, "sub/weights")]
    assert same(link, known["link"])
    assert not same(replace(link, link="config.json"), known["link"])
    assert not same(replace(link, link=""), known["link"])
