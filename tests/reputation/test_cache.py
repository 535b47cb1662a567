"""The cache on a real disk, with real processes."""

from __future__ import annotations

import math
import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation.cache_path import cache_path
from pytest_vastgpu.reputation.cache_path import default_path
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.writer import record_text
from tests.reputation.conftest import NOW
from tests.reputation.conftest import Told
from tests.reputation.conftest import asides
from tests.reputation.conftest import item
from tests.reputation.conftest import names


def test_nothing_is_made_before_something_is_written(cache: HostCache, tmp_path: Path) -> None:
    assert not cache.read().machines
    assert cache.clear_all() is None
    assert list(tmp_path.iterdir()) == []


def test_record_and_read(cache: HostCache, told: Told) -> None:
    cache.record(item("a"))
    cache.record(item("a"))
    cache.record(item("b", 2))
    assert cache.book().evidence == {"a": item("a"), "b": item("b", 2)}
    assert cache.read(NOW).machines[1].infra_failures == 1.0
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    assert {path.name for path in cache.path.parent.iterdir()} == {"hosts.yaml", "hosts.yaml.lock"}
    assert not told


def test_the_path(tmp_path: Path) -> None:
    assert default_path({"VAST_HOST_CACHE": str(tmp_path / "x.yaml")}) == tmp_path / "x.yaml"
    assert default_path({}).name == "hosts.yaml"
    assert cache_path("x.yaml", {}, tmp_path) == tmp_path / "x.yaml"
    assert cache_path("", {"VAST_HOST_CACHE": "x.yaml"}, tmp_path) == tmp_path / "x.yaml"
    assert HostCache(cache_path("~/x.yaml", {}, tmp_path)).path == Path.home().resolve() / "x.yaml"


def test_a_read_sees_what_others_appended_and_edited(cache: HostCache) -> None:
    other = HostCache(cache.path)
    cache.record(item("a"))
    assert set(cache.book().evidence) == {"a"}
    other.record(item("b"))
    assert set(cache.book().evidence) == {"a", "b"}
    other.ban(5, until=math.inf, since=NOW)
    assert cache.read(NOW).machines[5].banned_until == math.inf
    assert set(cache.book().evidence) == {"a", "b"}


def _write(path: Path, number: int, count: int) -> None:
    cache = HostCache(path)
    for turn in range(count):
        cache.record(item(f"{number}-{turn}", number + 1))
        if turn % 10 == number:
            cache.ban(1000 + number * 100 + turn, until=math.inf, since=NOW)


def test_no_update_of_four_processes_is_lost(cache: HostCache, told: Told) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(cache.path, number, 50)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    book = cache.book()
    assert set(book.evidence) == {f"{number}-{turn}" for number in range(4) for turn in range(50)}
    assert len(book.machines) == 4 * 5
    assert not told
    assert {path.name for path in cache.path.parent.iterdir()} == {"hosts.yaml", "hosts.yaml.lock"}


def test_threads_share_a_cache(cache: HostCache) -> None:
    def write(number: int) -> None:
        for turn in range(20):
            cache.record(item(f"{number}-{turn}", number + 1))  # of one machine only some are kept
            cache.book()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache.book().evidence) == 80


def test_a_crash_at_any_byte_of_a_record_loses_nothing_before_it(tmp_path: Path) -> None:
    whole = tmp_path / "whole.yaml"
    HostCache(whole).record(item("first"))
    HostCache(whole).ban(9, until=math.inf, since=NOW)
    before = whole.read_bytes()
    last = record_text(VAST, Outcome("last", NOW, 2, FailureClass.READY, gpu_name="Ä100", seconds={"booting": 12.25}))
    for cut in range(len(last) + 1):
        told = Told()
        cache = HostCache(tmp_path / str(cut) / "hosts.yaml", tell=told)
        cache.path.parent.mkdir()
        cache.path.write_bytes(before + last[:cut])
        if cut % 2:  # a recording process may be the first to come after the crash, or a reader
            cache.record(item("next", 3))
        complete = {"last"} if last[:cut].rstrip(b"\n") == last.rstrip(b"\n") else set()
        expected = {"first", *complete, *({"next"} if cut % 2 else set())}
        assert set(cache.book().evidence) == expected, cut
        assert cache.read(NOW).machines[9].banned_until == math.inf
        if torn := last[:cut].strip(b"\n- ") if not complete else b"":
            assert len(told) == 1, cut
            (aside,) = asides(cache)
            assert str(aside) in told[0]
            assert torn in aside.read_bytes(), cut
        cache.book()
        assert len(told) <= 1, "told once"


def test_a_hand_edit_is_honoured_between_records(cache: HostCache) -> None:
    cache.record(item("a"))
    text = cache.path.read_text()
    mine = "    machines:\n      '77':\n        ban: forever\n        note: mine"
    cache.path.write_text(text.replace("markets: {}", f"markets:\n  vast.ai:\n{mine}\nteam: x"))
    cache.record(item("b"))
    assert cache.read(NOW).machines[77].banned_until == math.inf
    cache.allow(5)
    cache.record(item("c"))
    book = cache.book()
    assert set(book.evidence) == {"a", "b", "c"}
    assert book.machines[77].extra == {"note": "mine"}
    assert cache.contents().extra == {"team": "x"}
    again = cache.path.read_text()
    assert "note: mine" in again
    assert "team: x" in again


def test_evidence_that_a_person_deletes_is_gone(cache: HostCache) -> None:
    cache.record(item("a"))
    size = cache.path.stat().st_size
    cache.record(item("b"))
    cache.book()
    os.truncate(cache.path, size)
    cache.record(item("c"))
    assert set(cache.book().evidence) == {"a", "c"}


def test_a_file_that_a_person_removes_is_made_again(cache: HostCache) -> None:
    cache.record(item("a"))
    cache.path.unlink()
    cache.record(item("b"))
    assert names(cache) == {"b"}


def test_a_link_stays_a_link_and_the_mode_is_kept(tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "real.yaml")
    HostCache(link).record(item("a"))
    (tmp_path / "real.yaml").chmod(0o640)
    HostCache(link).allow(3)
    assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / "real.yaml").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"pytest-vastgpu-hosts: 2\nmachines:\n\t42: {ban: forever}\n", "line 3"),
        (b"pytest-vastgpu-hosts: 2\nmachines: [\n", "line"),
        (b"foo: bar\n", "another program's file"),
        (b"- 1\n- 2\n", "another program's file"),
        (b"apiVersion: v1\n---\nkind: Pod\n", "another program's file"),
        (b"just words\n", "another program's file"),
        (b'{"json": true}', "another program's file"),
        (b"\x00\x01\xff\xfe binary", "UTF-8"),
        (b"pytest-vastgpu-hosts: 2\nwhen: 2026-13-45 00:00:00\n", "month"),
        (b"[" * 5000, "line"),
        (b"a: &a [*b]\n", "alias"),
    ],
)
@pytest.mark.parametrize("first", ["read", "record"])
def test_a_damaged_or_foreign_file_is_set_aside(
    cache: HostCache, told: Told, content: bytes, why: str, first: str
) -> None:
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(content)
    if first == "record":
        cache.record(item("a"))
    assert set(cache.book().evidence) == ({"a"} if first == "record" else set())
    assert len(told) == 1
    (aside,) = asides(cache)
    assert str(aside) in told[0]
    if len(content) < 5000:
        assert why in told[0]
    assert aside.read_bytes().startswith(content)
    cache.record(item("b"))
    assert "b" in names(cache)


def test_records_below_a_damaged_snapshot_are_saved(cache: HostCache, told: Told) -> None:
    cache.record(item("a"))
    cache.path.write_bytes(cache.path.read_bytes().replace(b"markets: {}", b"markets: {"))
    cache.record(item("b"))
    assert set(cache.book().evidence) == {"a", "b"}
    assert len(told) == 1


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only a comment\n"])
def test_an_empty_file_is_taken_over(cache: HostCache, told: Told, content: bytes) -> None:
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(content)
    assert not cache.read().machines
    cache.record(item("a"))
    assert names(cache) == {"a"}
    assert not told
    assert not asides(cache)


def test_a_later_format_is_left_alone(cache: HostCache) -> None:
    cache.path.parent.mkdir(parents=True)
    cache.path.write_text("pytest-vastgpu-hosts: 3\nmarkets: {}\n")
    for act in (cache.read, lambda: cache.record(item("a")), lambda: cache.allow(3)):
        with pytest.raises(HostCacheError, match="newer pytest-vastgpu"):
            act()
    assert cache.path.read_text() == "pytest-vastgpu-hosts: 3\nmarkets: {}\n"


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for act in (lambda: HostCache(file / "hosts.yaml").record(item("a")), lambda: HostCache(tmp_path).read()):
        with pytest.raises(HostCacheError, match="--vast-host-cache"):
            act()


def test_many_appended_records_are_moved_up_when_the_file_is_read(cache: HostCache) -> None:
    for number in range(10):
        cache.record(item(str(number), number + 1))
    HostCache(cache.path, compact_bytes=1000).read()
    assert cache.path.read_bytes().count(b"\n---\n") == 1
    assert len(names(cache)) == 10


def test_ban_allow_clear(cache: HostCache) -> None:
    cache.record(item("a", 1))
    cache.record(item("b", 2))
    cache.ban(1, until=math.inf, reason="slow", since=NOW)
    assert cache.read(NOW).machines[1].ban_reason == "slow"
    cache.allow(1)
    assert cache.read(NOW).machines[1].banned_until == 0.0
    cache.ban(7, host=True, until=NOW + 5, since=NOW)
    assert cache.read(NOW).hosts[7].banned_until == NOW + 5
    assert cache.clear(1) == 1
    assert set(cache.read(NOW).machines) == {2}
    assert cache.clear(7, host=True) == 1
    assert not cache.read(NOW).machines
    assert not cache.read(NOW).hosts
    cache.record(item("c"))
    backup = cache.clear_all()
    assert backup is not None
    assert set(HostCache(backup).book().evidence) == {"c"}
    assert not cache.read(NOW).machines


def test_merge_counts_what_is_known_once(cache: HostCache, tmp_path: Path) -> None:
    cache.record(item("a"))
    other = HostCache(tmp_path / "other.yaml")
    other.record(item("a"))
    other.record(item("b"))
    other.ban(9, until=math.inf, since=NOW)
    assert cache.merge([other.path]) == 1
    assert cache.merge([other.path, cache.path]) == 0
    assert names(cache) == {"a", "b"}
    assert cache.read(NOW).machines[9].banned_until == math.inf


@pytest.mark.parametrize("content", [None, "foo: bar\n", "pytest-vastgpu-hosts: 3\n"])
def test_merging_what_is_no_cache_changes_nothing(cache: HostCache, tmp_path: Path, content: str | None) -> None:
    cache.record(item("a"))
    before = cache.path.read_bytes()
    other = tmp_path / "other.yaml"
    if content is not None:
        other.write_text(content)
    with pytest.raises(HostCacheError, match=r"other\.yaml"):
        cache.merge([other])
    assert cache.path.read_bytes() == before
