from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from pytest_vastgpu.supervisor.login import LoginSession
from tests.support.looks import until


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process


@pytest.mark.parametrize("descriptors", [True, False], ids=["a descriptor", "by number"])
def test_a_session_ends_with_its_leader(
    leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, descriptors: bool
) -> None:
    if not descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    session = LoginSession(leader.pid)
    assert not session.over
    leader.communicate()
    until(lambda: session.over, bool)
    session.close()
    assert session.over, "it does not come back"


@pytest.mark.parametrize("descriptors", [True, False], ids=["a descriptor", "by number"])
def test_one_that_has_ended_before_is_over(
    leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, descriptors: bool
) -> None:
    if not descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    leader.communicate()
    assert LoginSession(leader.pid).over


def test_one_that_is_not_known_is_not_over() -> None:
    assert not LoginSession(0).over
