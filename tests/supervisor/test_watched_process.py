from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from pytest_vastgpu.supervisor.watched_process import WatchedProcess
from tests.support.looks import until


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process


@pytest.mark.parametrize("descriptors", [True, False], ids=["a descriptor", "by number"])
def test_its_end_is_seen(other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, descriptors: bool) -> None:
    if not descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    watched = WatchedProcess(other.pid)
    assert not watched.gone
    other.communicate()
    until(lambda: watched.gone, bool)
    watched.close()
    assert watched.gone, "it does not come back"


@pytest.mark.parametrize("descriptors", [True, False], ids=["a descriptor", "by number"])
def test_one_that_has_ended_before_is_gone(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, descriptors: bool
) -> None:
    if not descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    other.communicate()
    assert WatchedProcess(other.pid).gone


def test_one_that_is_not_known_is_not_gone() -> None:
    assert not WatchedProcess(0).gone


@pytest.mark.parametrize("descriptors", [True, False], ids=["a descriptor", "by number"])
def test_one_that_is_watched_no_more_is_not_taken_for_gone(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, descriptors: bool
) -> None:
    if not descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    watched = WatchedProcess(other.pid)
    watched.close()
    other.communicate()
    assert not watched.gone
