"""Each market has its own part of the file; the first format knew none."""

from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation import locked_files
from pytest_vastgpu.reputation.contents import MarketRecords
from pytest_vastgpu.reputation.host_cache import HostCache
from tests.reputation.conftest import NOW
from tests.reputation.conftest import Told
from tests.reputation.conftest import item

OLD = b"pytest-vastgpu-hosts: 1\nmachines:\n  42: {ban: forever, note: mine}  # a comment\nhosts: {}\nteam: x\n...\n"
OLD_RECORD = b"\n---\nmachine: 43\ntime: 2030-03-17T17:46:40Z\noutcome: infra_fatal\nhost: 7\nid: old\n...\n"


@pytest.mark.parametrize("first", ["read", "record", "ban"])
def test_a_file_of_format_1_is_migrated_and_kept(cache: HostCache, told: Told, first: str) -> None:
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(OLD + OLD_RECORD)
    if first == "record":
        cache.record(item("a"))
    elif first == "ban":
        cache.ban(44, until=math.inf, since=NOW)
    book = cache.book()
    assert set(book.evidence) == {"old", *({"a"} if first == "record" else set())}
    assert set(book.machines) == {42, *({44} if first == "ban" else set())}
    assert book.machines[42].extra == {"note": "mine"}
    assert cache.contents().extra == {"team": "x"}
    assert b"pytest-vastgpu-hosts: 2\n" in cache.path.read_bytes()
    (aside,) = cache.path.parent.glob("hosts.yaml.format-1-*")
    assert aside.read_bytes() == OLD + OLD_RECORD
    assert len(told) == 1
    assert str(aside) in told[0]
    cache.read()
    assert len(told) == 1


def test_an_old_version_that_appends_meanwhile_loses_nothing(cache: HostCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(OLD)
    exclusive = locked_files.exclusive

    def appended_just_before(path: Path) -> AbstractContextManager[None]:
        monkeypatch.undo()
        with path.open("ab") as file:
            file.write(OLD_RECORD)
        return exclusive(path)

    monkeypatch.setattr(locked_files, "exclusive", appended_just_before)
    cache.allow(5)
    assert set(cache.book().evidence) == {"old"}
    # What an old version looks for before it appends, and what it takes for a newer file when it rewrites:
    head = cache.path.read_bytes()[:4096]
    assert not re.search(rb"^pytest-vastgpu-hosts:[ \t]*1[ \t]*\r?$", head, re.MULTILINE)
    assert re.search(rb"^pytest-vastgpu-hosts: 2$", head, re.MULTILINE)


def test_markets_are_kept_apart(tmp_path: Path) -> None:
    vast, local = (HostCache(tmp_path / "hosts.yaml", market=market) for market in (VAST, "http://127.0.0.1:8000"))
    vast.record(item("good", 2))
    before = vast.book()
    local.record(item("a", 1))
    local.ban(2, until=math.inf, since=NOW)
    local.allow(3)
    assert vast.book() == before
    assert set(vast.read(NOW).machines) == {2}
    assert set(local.read(NOW).machines) == {1, 2, 3}
    assert local.clear(2) == 0
    assert vast.book() == before
    other = HostCache(tmp_path / "other.yaml", market=local.market)
    other.record(item("b", 1))
    HostCache(other.path).record(item("c", 1))
    assert local.merge([other.path]) == 1
    assert set(local.book().evidence) == {"a", "b"}
    assert vast.book() == before
    assert local.clear_all() is not None
    assert local.book() == MarketRecords()
    assert vast.book() == before
