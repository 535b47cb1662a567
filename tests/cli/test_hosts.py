from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_vastgpu.cli.hosts import add_hosts_parser
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostCache:
    monkeypatch.setenv("VAST_HOST_CACHE", str(tmp_path / "hosts.yaml"))
    return HostCache(tmp_path / "hosts.yaml")


def vastgpu(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="vastgpu")
    add_hosts_parser(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["hosts", *words])
    return int(arguments.handler(arguments))


def fail(cache: HostCache, machine: int = 4242) -> None:
    bad = FailureClass.INFRA_FATAL
    cache.record(Outcome(str(machine), time.time(), machine, bad, 7, "A100", "nvml", "vllm m", {"booting": 9.0}))


def test_list_and_show(cache: HostCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert vastgpu("list") == 0
    assert "nothing is known yet" in capsys.readouterr().out
    fail(cache)
    assert vastgpu("list") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["machine", "host", "ready", "failed", "start", "last", "reason", "standing"]
    assert out[1].split()[:4] == ["4242", "7", "0", "1.0"]
    assert "banned until" in out[1]
    for words in (("show", "4242"), ("show", "7", "--host")):
        assert vastgpu(*words) == 0
        assert "infra_fatal" in capsys.readouterr().out
    assert vastgpu("show", "5") == 1
    assert "nothing is known of machine 5" in capsys.readouterr().err


def test_ban_allow_clear(cache: HostCache, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.time()
    assert vastgpu("ban", "4242", "--for", "1d12h", "--reason", "slow disk") == 0
    assert before - 1 <= cache.read().machines[4242].banned_until - 36 * 3600 <= time.time() + 1
    assert vastgpu("ban", "7", "--host") == 0
    assert "host 7 is banned for good" in capsys.readouterr().out
    assert vastgpu("list") == 0
    out = capsys.readouterr().out
    assert "slow disk" in out
    assert "host 7: banned for good" in out
    assert vastgpu("allow", "4242") == 0
    assert cache.read().machines[4242].allowed
    fail(cache)
    assert vastgpu("clear", "4242") == 0
    assert "machine 4242 is forgotten (1 records)" in capsys.readouterr().out
    assert 4242 not in cache.read().machines
    assert vastgpu("clear", "--all") == 0
    assert "hosts.yaml.cleared-" in capsys.readouterr().out
    assert not cache.read().hosts


def test_merge(cache: HostCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fail(HostCache(tmp_path / "other.yaml"))
    assert vastgpu("merge", "--host-cache", str(cache.path), str(tmp_path / "other.yaml")) == 0
    assert "1 new records" in capsys.readouterr().out
    assert 4242 in cache.read().machines


def test_every_command_is_about_one_market(
    cache: HostCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(cache)
    local = HostCache(cache.path, market="http://127.0.0.1:8000")
    assert vastgpu("ban", "7", "--market", "HTTP://127.0.0.1:8000/") == 0
    assert "machine 7 on http://127.0.0.1:8000 is banned" in capsys.readouterr().out
    assert set(local.read().machines) == {7}
    assert set(cache.read().machines) == {4242}
    assert vastgpu("list") == 0
    printed = capsys.readouterr()
    assert "4242" in printed.out
    assert "machines of other markets are not shown: --market http://127.0.0.1:8000" in printed.err
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:8000")
    assert vastgpu("allow", "8") == 0
    assert set(local.read().machines) == {7, 8}
    assert vastgpu("merge", str(cache.path), "--host-cache", str(tmp_path / "other.yaml")) == 0
    assert vastgpu("merge", str(cache.path), "--host-cache", str(tmp_path / "other.yaml"), "--market", "vast.ai") == 0
    out = capsys.readouterr().out
    assert "0 new records on http://127.0.0.1:8000" in out
    assert "1 new records from" in out
    assert vastgpu("clear", "--all") == 0
    assert "all is forgotten of http://127.0.0.1:8000" in capsys.readouterr().out
    assert set(local.read().machines) == set()
    assert set(cache.read().machines) == {4242}
    monkeypatch.setenv("VAST_URL", "nonsense")
    with pytest.raises(ConfigurationError, match="VAST_URL: 'nonsense' is not the URL of a market"):
        vastgpu("list")


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_vastgpu", "hosts", "list", "--host-cache"]
    done = subprocess.run([*command, tmp_path / os.fsdecode(b"\xff")], capture_output=True, text=True, check=True)
    assert "\\udcff" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("clear",),
        ("clear", "1", "--all"),
        ("ban", "abc"),
        ("ban", "-3"),
        ("ban", "0"),
        ("ban", "9" * 5000),
        ("ban", "7", "--market", "my market"),
        ("ban", "1", "--for", "soon"),
        ("ban", "1", "--for", "0s"),
        ("ban", "1", "--for", "1.2.3h"),
        ("merge",),
    ],
)
def test_wrong_usage(cache: HostCache, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        vastgpu(*words)
    assert stop.value.code == 2
    assert capsys.readouterr().err
    assert not cache.path.exists()
