"""What a path may lead to that is no cache, and places that cannot be written."""

from __future__ import annotations

import math
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.reputation.host_cache import HostCache
from tests.reputation.conftest import NOW
from tests.reputation.conftest import Told
from tests.reputation.conftest import item
from tests.reputation.conftest import names


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_full_device(path: Path) -> None:
    path.symlink_to("/dev/full")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # a whole path may be too long


def a_directory(path: Path) -> None:
    path.mkdir()


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"pytest-vastgpu-hosts: 2\n")
        file.truncate(1 << 40)  # with a hole


def a_million_lines(path: Path) -> None:
    path.write_bytes(b"pytest-vastgpu-hosts: 2\nx:\n" + b"- 1\n" * 1_000_000)


ODD: dict[Callable[[Path], None], str] = {
    a_pipe: "a named pipe, not a regular file",
    a_device: "a device, not a regular file",
    a_full_device: "a device, not a regular file",
    a_socket: "No such device",
    a_directory: "a directory, not a regular file",
    too_large: "larger than 16 MiB",
    a_million_lines: "more than 500000 lines",
}


@pytest.mark.parametrize("make", ODD)
def test_what_is_no_file_is_told_at_once(cache: HostCache, tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "odd.yaml"
    make(path)
    odd = HostCache(path, tell=Told())
    acts: list[Callable[[], object]] = [odd.read, odd.clear_all, lambda: odd.ban(1, until=math.inf, since=NOW)]
    for act in acts:
        with pytest.raises(HostCacheError, match=rf"{ODD[make]}.*--vast-host-cache"):
            act()
    with pytest.raises(HostCacheError, match=f"cannot read .*{ODD[make]}.*nothing was merged"):
        cache.merge([path])
    assert not cache.path.exists()


def test_a_circle_of_links_is_told(tmp_path: Path, cache: HostCache) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(HostCacheError, match=r"(?i)symlink loop|symbolic links.*--vast-host-cache"):
        HostCache(tmp_path / "one").read()
    with pytest.raises(HostCacheError, match="symbolic links"):
        cache.merge([tmp_path / "one"])


@pytest.mark.parametrize("name", ["\0.yaml", "~nobody-of-that-name/hosts.yaml"])
def test_a_name_that_no_file_can_have_is_told(cache: HostCache, name: str) -> None:
    with pytest.raises(HostCacheError, match="--vast-host-cache"):
        HostCache(Path(name))
    with pytest.raises(HostCacheError, match="nothing was merged"):
        cache.merge([Path(name)])


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    cache = HostCache(tmp_path / os.fsdecode(b"\xff.yaml"))
    cache.record(item("a"))
    assert names(cache) == {"a"}


@pytest.mark.parametrize("depth", [60, 900, 100_000])
def test_a_deep_file_is_set_aside(cache: HostCache, told: Told, depth: int) -> None:
    cache.path.parent.mkdir(parents=True)
    cache.path.write_text("pytest-vastgpu-hosts: 2\nnote: " + "[" * depth + "]" * depth)
    assert not cache.read().machines
    assert "nested more than" in told[0] or "nesting depth" in told[0]


def test_a_place_is_tried_before_anything_is_recorded(cache: HostCache, tmp_path: Path) -> None:
    cache.require_writable()
    assert not cache.path.exists()
    cache.record(item("a"))
    before = cache.path.read_bytes()
    cache.require_writable()
    assert cache.path.read_bytes() == before
    assert {path.name for path in cache.path.parent.iterdir()} == {"hosts.yaml", "hosts.yaml.lock"}
    (tmp_path / "file").write_text("")
    for path in (Path("/proc/hosts.yaml"), tmp_path / "file" / "hosts.yaml"):
        with pytest.raises(HostCacheError, match=r"cannot write the host cache .*--vast-host-cache"):
            HostCache(path).require_writable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_place_where_others_may_not_write_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        cache = HostCache(Path(place) / "hosts.yaml")
        cache.record(item("a"))
        cache.path.chmod(0o644)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                cache.read()
                cache.require_writable()
            except HostCacheError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as told:
            assert "Permission denied" in (said := told.read())
            assert "--vast-host-cache" in said
        os.waitpid(child, 0)
