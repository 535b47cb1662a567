"""One process answers for a run's directory, whoever else looks at it or is started meanwhile."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pytest_vastgpu.core.ownership import LOCK
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.core.ownership import ownership


def test_who_looks_is_no_owner(tmp_path: Path) -> None:
    looks = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looks, fcntl.LOCK_SH)
    assert not is_owned(tmp_path)
    os.close(looks)


def test_who_looks_keeps_nobody_from_becoming_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looks, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(looks, fcntl.LOCK_UN))  # its look is over meanwhile
    with ownership(tmp_path) as ours:
        assert ours
        assert is_owned(tmp_path)
    os.close(looks)


def test_an_ownership_ends_although_a_process_that_is_being_started_has_a_copy_of_its_lock(tmp_path: Path) -> None:
    """A process has all descriptors until it has become another program."""
    with ownership(tmp_path):
        (lock,) = [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == str(tmp_path / LOCK)]
        copy = os.dup(int(lock.name))
        assert is_owned(tmp_path)
    assert not is_owned(tmp_path)
    os.close(copy)
