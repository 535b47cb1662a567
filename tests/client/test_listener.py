"""Where a supervisor will listen, before it is there."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vastgpu.client.listener import Listener
from tests.client.conftest import call
from tests.support.looks import forked

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an abstract namespace")
KINDS = [pytest.param(True, marks=linux, id="abstract"), pytest.param(False, id="directory")]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files are made; nothing may be left there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("abstract", KINDS)
def test_whoever_connects_waits_until_somebody_accepts(abstract: bool) -> None:
    listener = Listener(abstract=abstract)
    assert not listener.wanted
    with call(listener.address) as sock:
        sock.sendall(b"x")
        assert listener.wanted
        accepted, _ = listener.socket.accept()
        with accepted:
            assert accepted.recv(1) == b"x"
    listener.remove()
    with pytest.raises(OSError, match=r"refused|No such file"):
        call(listener.address)


@pytest.mark.parametrize("abstract", KINDS)
def test_no_two_are_alike_and_no_secret_is_shown(abstract: bool) -> None:
    one, other = Listener(abstract=abstract), Listener(abstract=abstract)
    assert one.address.path != other.address.path
    assert one.address.secret != other.address.secret
    assert len(one.address.secret) >= 32
    assert one.address.secret not in f"{one.address!r} {one.address!s}"
    one.remove()
    other.remove()


def test_nobody_else_can_enter_its_directory(temporary: Path) -> None:
    listener = Listener(abstract=False)
    folder = Path(listener.address.path).parent
    mode = folder.stat()
    assert stat.S_IMODE(mode.st_mode) == 0o700
    assert mode.st_uid == os.getuid()
    listener.remove()
    listener.remove()
    assert not folder.exists()


def test_a_long_path_of_temporary_files_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * (200 - len(str(tmp_path))))
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setattr(tempfile, "tempdir", None)
    listener = Listener(abstract=False)
    folder = Path(listener.address.path).parent
    call(listener.address).close()
    listener.remove()
    assert list(deep.iterdir()) == []
    assert not folder.exists()


@linux
def test_in_the_abstract_namespace_there_are_no_files(temporary: Path) -> None:
    listener = Listener()
    assert listener.address.path.startswith("\0")
    listener.remove()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_it() -> None:
    listener = Listener()
    number = listener.socket.fileno()
    forked(lambda: listener.socket.fileno() == -1 and not os.path.exists(f"/proc/self/fd/{number}"))  # noqa: PTH110
    call(listener.address).close()
    listener.remove()


def test_it_can_be_handed_to_another_process() -> None:
    listener = Listener()
    script = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.accept()[0].sendall(b'here')"
    number = listener.socket.fileno()
    process = subprocess.Popen([sys.executable, "-c", script, str(number)], pass_fds=[number])
    listener.close()
    with call(listener.address) as sock:
        assert sock.recv(4, socket.MSG_WAITALL) == b"here"
    assert process.wait() == 0
    listener.remove()
