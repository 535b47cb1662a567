"""Files on their way from a host: what is sent, and what is taken of it."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.on_host.fetched import FOLDER
from pytest_vastgpu.plugin.on_host.fetched import NotOurs
from pytest_vastgpu.plugin.on_host.fetched import folder_for_a_run
from pytest_vastgpu.plugin.on_host.fetched import matches
from pytest_vastgpu.plugin.on_host.fetched import nothing_for
from pytest_vastgpu.plugin.on_host.fetched import told
from pytest_vastgpu.plugin.on_host.pack import pack
from pytest_vastgpu.plugin.on_host.unpack import Received
from pytest_vastgpu.plugin.on_host.unpack import unpack
from pytest_vastgpu.reporting.sentences import size
from tests.support.projects import too_deep


class Side:
    """A host's directories, and home's."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home, self._began = folder / "host" / "project", folder / "home", folder / "began"
        self.root.mkdir(parents=True)
        self.write("brought.txt", "from home")
        later = (self.root / "brought.txt").stat().st_ctime_ns + 1
        self._began.touch()
        os.utime(self._began, ns=(later, later))

    def write(self, name: str, text: str = "", root: Path | None = None) -> Path:
        path = (root or self.root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def until_the_clock_ticks(self) -> None:
        """A file system's clock is coarse: have what is written from now on be later than the run's beginning."""
        probe = self.root.parent / "probe"
        while not probe.exists() or probe.stat().st_ctime_ns <= self._began.stat().st_mtime_ns:
            probe.write_text("")
        probe.unlink()

    def sent(self, *patterns: str, tmp: tuple[dict[str, str], ...] = (), most: int = 10**9, files: int = 100) -> bytes:
        parts: list[bytes] = []
        asked = {"root": str(self.root), "patterns": patterns, "since": str(self._began), "tmp": tmp}
        pack(json.loads(json.dumps({**asked, "most_bytes": most, "most_files": files})), parts.append)
        return b"".join(parts)

    def takes(self, stream: bytes, most: int = 10**9, files: int = 100) -> Received:
        return unpack([stream[at : at + 1000] for at in range(0, len(stream), 1000)], self.home, most, files)

    def fetch(self, *patterns: str, **how: Any) -> Received:
        return self.takes(self.sent(*patterns, **how))

    @property
    def arrived(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.home)): path.read_text() for path in self.home.rglob("*") if not path.is_dir()
        }


@pytest.fixture
def side(tmp_path: Path) -> Side:
    made = Side(tmp_path)
    made.until_the_clock_ticks()
    return made


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("reports/*.json", {"reports/a.json"}),
        ("reports", {"reports/a.json", "reports/deep/b.json", "reports/c.txt"}),
        ("reports/**", {"reports/a.json", "reports/deep/b.json", "reports/c.txt"}),
        ("**/*.json", {"reports/a.json", "reports/deep/b.json", ".benchmarks/d.json"}),
        ("*/a.json", {"reports/a.json"}),
        (".benchmarks/*", {".benchmarks/d.json"}),
        ("**/*.pyc", set()),
        ("brought.txt", set()),
        ("nothing", set()),
    ],
)
def test_what_a_pattern_matches_and_the_run_has_written_comes(side: Side, pattern: str, names: set[str]) -> None:
    for name in ("reports/a.json", "reports/deep/b.json", "reports/c.txt", ".benchmarks/d.json", "__pycache__/e.pyc"):
        side.write(name, name)
    got = side.fetch(pattern)
    assert side.arrived == {name: name for name in names}
    assert (got.files, got.broken, got.refused) == (len(names), "", [])


def test_a_file_that_was_brought_comes_once_a_test_has_changed_it(side: Side) -> None:
    side.write("brought.txt", "changed")
    side.fetch("brought.txt", "*.txt")
    assert side.arrived == {"brought.txt": "changed"}


def test_nothing_is_of_a_run_of_which_no_worker_has_begun(side: Side) -> None:
    side.write("a.json")
    (side.root.parents[1] / "began").unlink()
    assert side.fetch("**/*").files == 0


def test_a_link_out_of_the_project_a_pipe_and_what_does_not_fit_are_told_and_the_rest_comes(
    side: Side, tmp_path: Path
) -> None:
    side.write("secret", "s", root=tmp_path)
    (side.root / "out").symlink_to(tmp_path / "secret")
    (side.root / "away").symlink_to(tmp_path)
    (side.root / "in").symlink_to(side.write("small", "x"))
    os.mkfifo(side.root / "pipe")
    side.write("large", "y" * 2000)
    got = side.fetch("*", most=1500)
    assert side.arrived == {"in": "x", "small": "x"}
    [line, other] = told("host 1", "there", [], got)
    assert line == "vastgpu: host 1: fetched 2 files (2 bytes) into there"
    assert other == (
        "vastgpu: host 1: not fetched: 'away' (a link to a directory), 'out' (a link that leads elsewhere), "
        "'large' (2.0 kB); "
        "2.0 GB and 10,000 files of a host are the most: ask for less"
    )


def test_more_files_than_are_taken_are_counted(side: Side) -> None:
    for number in range(30):
        side.write(f"f{number:02}")
    got = side.fetch("f*", files=2)
    assert sorted(side.arrived) == ["f00", "f01"]
    [_, line] = told("h", "there", [], got)
    assert "not fetched: 'f02' (0 bytes), 'f03' (0 bytes), 'f04' (0 bytes) and 25 more; 2.0 GB and" in line


def test_names_that_are_not_utf_8_arrive_and_control_characters_do_not(side: Side) -> None:
    odd = os.fsdecode(b"caf\xe9-\xff")
    for name in (odd, "tab\there", "esc\x1b]0;title\x07", "umlaut-ä"):
        side.write(name, "x")
    got = side.fetch("*")
    assert sorted(side.arrived) == sorted([odd, "umlaut-ä"])
    [_, line] = told("h", "there", [], got)
    assert line.count("its name has control characters") == 2
    assert line.isprintable()


def test_the_tmp_path_of_tests_comes_also_of_one_that_crashed_its_worker(side: Side, tmp_path: Path) -> None:
    for name in ("test_a_0", "test_b0", "test_b1"):
        side.write(f"{name}/out", name, root=tmp_path / "gw0")
        os.utime(tmp_path / "gw0" / name, ns=(0, int(name[-1]) + 2 * ("b" in name)))
    (tmp_path / "gw0" / "test_bcurrent").symlink_to("test_b1")
    asked = (
        {"as": "tmp_path/a", "path": str(tmp_path / "gw0" / "test_a_0")},
        {"as": "tmp_path/b", "below": str(tmp_path / "gw0"), "begins": "test_b"},
        {"as": "tmp_path/c", "below": str(tmp_path / "gw0"), "begins": "test_c"},
        {"as": "tmp_path/d", "below": str(tmp_path / "nobody"), "begins": "test_d"},
        {"as": "tmp_path/e", "path": str(tmp_path / "gone")},
    )
    got = side.fetch(tmp=asked)
    assert side.arrived == {"tmp_path/a/out": "test_a_0", "tmp_path/b/out": "test_b1"}
    [_, line] = told("h", "there", [each["as"] for each in asked], got)
    assert line == "vastgpu: h: not fetched: tmp_path/c and 2 more: removed there by the end of the run"


@pytest.mark.parametrize("pattern", ["out", "out/**", "**", "out/*", "**/*.txt"])
def test_one_path_that_is_too_long_is_named_and_the_rest_comes(side: Side, pattern: str) -> None:
    side.write("out/ok.txt", "fine")
    too_deep(side.root / "out")
    got = side.fetch(pattern, tmp=({"as": "tmp_path/a", "path": str(side.root)},))
    assert side.arrived == {"out/ok.txt": "fine", "tmp_path/a/out/ok.txt": "fine"}
    assert got.broken == ""
    [_, line] = told("h", "there", [], got)
    assert line.startswith("vastgpu: h: not fetched: 'out/ddd")
    assert "'tmp_path/a/out/ddd" in line
    assert line.count("(File name too long)") == 2
    assert len(line) < 400


def test_a_stream_that_ends_early_is_told_and_leaves_no_half_file(side: Side) -> None:
    for name in ("a", "b"):
        side.write(name, os.urandom(3000).hex())
    whole = side.sent("?")
    for length in (0, 1, 40, len(whole) // 3, len(whole) * 2 // 3, len(whole) - 20):
        side.home = side.home.with_name(f"home{length}")
        got = side.takes(whole[:length])
        assert got.broken == "what it sends ends too early"
        assert all((side.root / name).read_text() == text for name, text in side.arrived.items())
        assert told("h", "there", [], got)[0].endswith(": what it sends ends too early")


def stream(*frames: object) -> bytes:
    """What a host may send: content as bytes, headers as anything else."""
    data = [frame if isinstance(frame, bytes) else json.dumps(frame).encode() for frame in frames]
    return zlib.compress(b"".join(struct.pack("!I", len(each)) + each for each in data))


def file(name: object, content: bytes = b"x") -> tuple[object, ...]:
    return ({"name": name}, content, b"")


END = {"end": {"matches": [], "gone": [], "unsent": [], "unsent_count": 0}}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../up", "its name leads elsewhere"),
        ("a/../../up", "its name leads elsewhere"),
        ("/etc/up", "its name leads elsewhere"),
        ("a//b", "its name leads elsewhere"),
        (".", "its name leads elsewhere"),
        ("a\0b", "its name has control characters"),
        ("\x1b[2J", "its name has control characters"),
        ("\x9b2J", "its name has control characters"),
        ("half\ud83d", "its name is no text"),
        ("n" * 5000, "File name too long"),
        ("good", "File exists"),
        ("good/below", "File exists"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_and_what_follows_comes(side: Side, name: str, why: str) -> None:
    before = set(side.home.parent.rglob("*"))
    got = side.takes(stream(*file("good"), *file(name, b"bad"), *file("also", b"y"), END))
    assert side.arrived == {"good": "x", "also": "y"}
    assert set(side.home.parent.rglob("*")) - before == {side.home, side.home / "good", side.home / "also"}
    [_, line] = told("h", "there", [], got)
    assert f"({why})" in line
    assert line.isprintable()
    assert len(line) < 300


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"Welcome to this host!\n", "it sends what it should not"),
        (zlib.compress(b"\xff" * 100), "it sends what it should not"),
        (stream(b"no json"), "it sends what it should not"),
        (stream(b"[" * 100_000), "it sends what it should not"),
        (stream([1]), "it sends what it should not"),
        (stream(*file(None)), "it sends what it should not"),
        (stream(*file("")), "it sends what it should not"),
        (stream({"name": "bomb"}, *[bytes(500_000)] * 8), "it sends more than 0.001 GB"),
        (stream(*[each for n in range(6) for each in file(f"{n}")]), "it sends more than 5 files"),
    ],
    ids=["text", "noise", "no JSON", "deep JSON", "a list", "no name", "an empty name", "a bomb", "many files"],
)
def test_a_host_that_sends_anything_else_is_told_in_one_line(side: Side, sent: bytes, why: str) -> None:
    got = side.takes(sent, most=10**6, files=5)
    assert got.broken == why
    assert "bomb" not in side.arrived
    assert len(told("h", "there", [], got)) == 1


@settings(max_examples=30)
@given(st.lists(st.recursive(st.none() | st.integers() | st.text(), lambda any_: st.lists(any_, max_size=4))))
def test_whatever_a_host_says_at_the_end_is_survived(said: list[Any]) -> None:
    for key in ("matches", "gone", "unsent", "unsent_count"):
        got = Received(end={key: said[0] if len(said) == 1 else said})
        assert all(line == sanitize.line(line) for line in told("h", "there", ["tmp_path/a"], got))
        assert all(isinstance(pair, tuple) for pair in matches(got, ["a", "b"]).values())


class Full(io.BytesIO):
    """A file on a disk that is full."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_ends_it_in_one_line(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    def opens(path: Path, mode: str) -> Full:
        path.touch()
        return Full()

    monkeypatch.setattr(Path, "open", opens)
    got = side.takes(stream(*file("a"), *file("b"), END))
    monkeypatch.undo()
    assert got.broken == "no room here: [Errno 28] No space left on device"
    assert side.arrived == {}


def test_a_place_that_cannot_be_written_ends_it_in_one_line(side: Side) -> None:
    side.home.write_text("a file")
    got = side.takes(stream(*file("a"), END))
    assert got.broken.startswith("cannot be written here: [Errno 17] File exists: ")
    assert told("h", "there", [], got) == [f"vastgpu: h: nothing fetched: {got.broken}"]


def test_a_pattern_for_which_no_host_has_had_anything_is_one_line() -> None:
    found = [{"a": (1, 1), "b": (0, 3), "c": (0, 0)}, {"a": (0, 0), "b": (0, 2), "c": (0, 0)}]
    assert nothing_for(found, ["a", "b", "c"]) == [
        "vastgpu: nothing fetched for 'b': 3 files there, written by no test of this run",
        "vastgpu: nothing fetched for 'c': no such file on any host",
    ]
    assert nothing_for([], ["a"]) == [], "no host has said anything"
    assert nothing_for([*found, {}], ["c"]) == [
        "vastgpu: nothing fetched for 'c': no such file on the hosts that have answered"
    ]


def test_the_folder_is_emptied_by_the_next_run_and_git_ignores_it(tmp_path: Path) -> None:
    folder, kept = tmp_path / FOLDER, tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    for _ in range(2):
        folder_for_a_run(folder)
        assert [path.name for path in folder.iterdir()] == [".gitignore"]
        assert "*" in (folder / ".gitignore").read_text().splitlines()
        (folder / "host-1").mkdir()
        (folder / "host-1" / "report").touch()
        (folder / "link").symlink_to(kept)
    assert (kept / "file").exists()


def test_a_folder_of_that_name_that_somebody_else_has_made_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "thesis").touch()
    with pytest.raises(NotOurs, match=r"holds files that are not of --vast-fetch, and would be emptied: move them"):
        folder_for_a_run(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 byte"), (999, "999 bytes"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes_are_read_easily(count: int, text: str) -> None:
    assert size(count) == text
