"""Input that does not fit into memory: it is made while it is sent, and has its time as long as it moves."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.ssh import execution
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.keys import KeyPair
from tests.ssh.conftest import log_in
from tests.ssh.conftest import start_asyncssh
from tests.ssh.test_contract import WITHIN_S
from tests.ssh.test_contract import Case
from tests.ssh.test_contract import case

__all__ = ["case"]
PARTS = 48
PART = bytes(range(256)) * 1024


def many() -> Iterator[bytes]:
    return iter([PART] * PARTS)


def endless() -> Iterator[bytes]:
    while True:
        yield PART


def test_what_is_sent_arrives_whole(connection: SshConnection) -> None:
    result = connection.send("sha256sum", many, still_s=WITHIN_S, name="digest")
    assert (result.name, result.ok) == ("digest", True)
    assert result.stdout.split()[0] == hashlib.sha256(PART * PARTS).hexdigest()


def test_it_is_looked_at_while_it_is_sent(case: Case) -> None:
    connection = case.connect()
    looks: list[int] = []
    result = connection.send("true", lambda: iter([b"x"]), still_s=WITHIN_S, watch=lambda: looks.append(1))
    assert result.ok
    assert looks
    connection.close()


def test_what_ends_the_look_ends_the_command(connection: SshConnection, tmp_path: Path) -> None:
    def enough() -> None:
        if (tmp_path / "began").exists():
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        connection.send(f"touch {tmp_path}/began; cat > /dev/null", endless, still_s=WITHIN_S, watch=enough)
    assert connection.run("true", timeout_s=WITHIN_S).ok


def test_what_cannot_be_made_is_told_and_not_taken_for_the_end(connection: SshConnection) -> None:
    def fails() -> Iterator[bytes]:
        yield PART
        raise RuntimeError("changed while it was read")

    with pytest.raises(RuntimeError, match="changed while it was read"):
        connection.send("cat > /dev/null", fails, still_s=WITHIN_S)


def test_one_that_stands_still_is_given_up(connection: SshConnection) -> None:
    result = connection.send("exec sleep 1000", endless, still_s=1.0)
    assert (result.failure, result.exit_code) == (ProbeFailure.TIMEOUT, None)


def test_one_that_moves_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(execution, "time", SimpleNamespace(monotonic=lambda: now))
    sent = execution.Outgoing([b"one", b"two"], 60.0)
    assert sent.ends() == 60.0
    for _ in sent:
        now += 50.0
    assert (now, sent.ends()) == (100.0, 160.0)


@pytest.mark.slow
def test_it_is_sent_from_the_start_where_the_login_shell_has_not_started_it(tmp_path: Path, key: KeyPair) -> None:
    server = start_asyncssh(tmp_path, key, "tmux-once")
    with contextlib.closing(log_in(server, key)) as connection:
        result = connection.send("wc -c", many, still_s=WITHIN_S)
    server.stop()
    assert result.stdout.strip() == str(PARTS * len(PART))
