from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.connection import connect
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.ssh.login import HostKeyPin
from tests.support.looks import free_port
from tests.support.looks import until
from tests.support.quick import only

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
NO_SSHD = "no sshd on this machine (apt-get install openssh-server)"


@dataclass
class Server:
    """A running SSH server."""

    address: SshAddress
    user: str
    pid: int
    stop: Callable[[], None]


@pytest.fixture(scope="session")
def key() -> KeyPair:
    return load_key({}, Path("/nonexistent"))


@pytest.fixture(scope="session")
def other_key() -> KeyPair:
    return load_key({}, Path("/nonexistent"))


def _key_files(folder: Path, key: KeyPair) -> tuple[str, str]:
    authorized = folder / "authorized_keys"
    authorized.write_text(key.public_line + "\n")
    host_key = folder / "host_key"
    if not host_key.exists():
        load_key({}, folder / "nobody").save(host_key)
    return str(host_key), str(authorized)


def start_asyncssh(folder: Path, key: KeyPair, mode: str = "plain") -> Server:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ssh.server", *_key_files(folder, key), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    port = int(process.stdout.readline())

    def stop() -> None:
        process.communicate()  # closes its stdin
        assert process.returncode == 0

    return Server(SshAddress("127.0.0.1", port, "direct"), "root", process.pid, stop)


def start_sshd(folder: Path, key: KeyPair, more: str = "") -> Server:
    assert SSHD is not None
    host_key, authorized = _key_files(folder, key)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # what it gives its unprivileged part as a root directory
    config = folder / "sshd_config"
    for _ in range(5):  # its port must be chosen here, and another process could take it before sshd does
        port = free_port()
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\n"
            "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"
            # A home of its own: what this machine's users have in their start files is not what is tested.
            f"PermitRootLogin yes\nPidFile none\nSetEnv HOME={folder}\n{more}\n"
        )
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        first = process.stderr.readline()
        if "Server listening" in first:
            break
        process.communicate()
    else:
        pytest.fail(f"sshd does not start: {first}")

    def stop() -> None:
        process.terminate()
        process.communicate()

    return Server(SshAddress("127.0.0.1", port, "direct"), getpass.getuser(), process.pid, stop)


@pytest.fixture(params=only(["asyncssh" if SSHD is None else "sshd"], ["asyncssh", "sshd"]))
def server(request: pytest.FixtureRequest, tmp_path: Path, key: KeyPair) -> Iterator[Server]:
    """Each kind of server in turn."""
    if request.param == "sshd" and SSHD is None:
        pytest.skip(NO_SSHD)
    server = (start_sshd if request.param == "sshd" else start_asyncssh)(tmp_path, key)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def connection(server: Server, key: KeyPair) -> Iterator[SshConnection]:
    with contextlib.closing(log_in(server, key)) as connection:
        yield connection


def log_in(server: Server, key: KeyPair, pin: HostKeyPin | None = None) -> SshConnection:
    return connect([server.address], key, pin or HostKeyPin(), timeout_s=20, user=server.user)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    # A login that was given up ends with its next packet: TCP sends those further and further apart.
    until(lambda: set(threading.enumerate()) - before, lambda left: not left)
