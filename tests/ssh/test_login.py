from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.connection import connect
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.ssh.login import HostKeyPin
from tests.ssh.conftest import Server
from tests.ssh.conftest import log_in
from tests.ssh.conftest import start_asyncssh
from tests.support.looks import PATIENCE_S
from tests.support.looks import refusing

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator


def failure(
    *addresses: SshAddress, key: KeyPair, timeout_s: float = 20, pin: HostKeyPin | None = None
) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        connect(addresses, key, pin or HostKeyPin(), timeout_s=timeout_s)
    return caught.value


def direct(port: int, host: str = "127.0.0.1") -> SshAddress:
    return SshAddress(host, port, "direct")


@contextlib.contextmanager
def listener(talk: Callable[[socket.socket], object]) -> Iterator[SshAddress]:
    """A TCP server whose first client is handled by ``talk``, then hung up on."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            client, _ = server.accept()
            with client:
                talk(client)

        thread = threading.Thread(target=work)
        thread.start()
        yield direct(server.getsockname()[1])
        thread.join()


def test_a_login(server: Server, key: KeyPair) -> None:
    with contextlib.closing(log_in(server, key)) as connection:
        assert connection.alive
        assert connection.address == server.address
    assert not connection.alive


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_login_with_a_key_of_the_users_own(tmp_path: Path, kind: str) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric import rsa

    made = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP384R1())
    path = tmp_path / "own"
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    key = load_key({"VAST_SSH_KEY_PATH": str(path)}, tmp_path)
    server = start_asyncssh(tmp_path, key)
    try:
        with contextlib.closing(log_in(server, key)) as connection:
            assert connection.run("echo in", timeout_s=20).stdout == "in\n"
    finally:
        server.stop()


def test_a_refused_key(server: Server, other_key: KeyPair, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ConnectFailed) as caught:
        log_in(server, other_key)
    assert caught.value.kind is ProbeFailure.AUTHENTICATION
    assert server.user in str(caught.value)
    assert caplog.records == []


def test_nothing_listens(key: KeyPair, caplog: pytest.LogCaptureFixture) -> None:
    with refusing() as port:
        assert failure(direct(port), key=key).kind is ProbeFailure.REFUSED
    assert caplog.records == []


def test_a_name_that_does_not_resolve(key: KeyPair) -> None:
    assert failure(direct(22, "no-such-host.invalid"), key=key).kind is ProbeFailure.UNREACHABLE


@contextlib.contextmanager
def black_hole() -> Iterator[SshAddress]:
    """With its queue full, Linux drops the packets of those who want to connect."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = direct(server.getsockname()[1])
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address.host, address.port))
        yield address


def test_no_answer_to_the_first_packet(key: KeyPair) -> None:
    with black_hole() as address:
        assert failure(address, key=key, timeout_s=0.3).kind is ProbeFailure.UNREACHABLE


def test_a_name_whose_look_up_hangs(key: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hangs(*_: object, **__: object) -> object:
        over.wait()
        raise OSError("it is over")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    monkeypatch.setattr("pytest_vastgpu.ssh.login.LEAVE_S", 0.1)
    try:
        assert failure(direct(22, "slow.invalid"), key=key, timeout_s=0.1).kind is ProbeFailure.UNREACHABLE
    finally:
        over.set()


@contextlib.contextmanager
def mute() -> Iterator[SshAddress]:
    """Accepts, and says nothing until the test is over."""
    over = threading.Event()
    with listener(lambda _: over.wait()) as address:
        try:
            yield address
        finally:
            over.set()


@pytest.mark.slow
@pytest.mark.parametrize("silent", [black_hole, mute])
def test_a_silent_address_does_not_keep_us_from_the_proxy(
    server: Server,
    key: KeyPair,
    silent: Callable[[], contextlib.AbstractContextManager[SshAddress]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pytest_vastgpu.ssh.login._HEAD_START_S", 0.1)
    proxy = SshAddress(server.address.host, server.address.port, "proxy")
    pin = HostKeyPin()
    with silent() as hidden:  # it would be waited for longer than any test takes
        connection = connect([hidden, proxy], key, pin, timeout_s=3600, user=server.user)
        with contextlib.closing(connection):
            assert connection.address == proxy
            assert connection.run("echo in", timeout_s=20).stdout == "in\n"
    assert pin.key is not None


def _hang_up(client: socket.socket) -> None:
    client.recv(1000)


def _reset(client: socket.socket) -> None:
    client.recv(1000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _say_nothing(client: socket.socket) -> None:
    while client.recv(1000):
        pass


def _speak_http(client: socket.socket) -> None:
    client.recv(1000)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _stop_after_the_banner(client: socket.socket) -> None:
    client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    _say_nothing(client)


def _hang_up_after_the_banner(client: socket.socket) -> None:
    client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    client.recv(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (_hang_up, "closed before its banner"),
        (_reset, "no SSH handshake"),
        (_say_nothing, "no SSH handshake within"),
        (_speak_http, "no SSH handshake"),
        (_stop_after_the_banner, "no SSH handshake within"),
        (_hang_up_after_the_banner, "no SSH handshake"),
    ],
)
def test_what_accepts_but_does_not_let_us_speak(
    key: KeyPair,
    talk: Callable[[socket.socket], None],
    words: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pytest_vastgpu.ssh.login.LEAVE_S", PATIENCE_S)  # why one has failed is told however late
    silent = "within" in words
    with listener(talk) as address:
        failed = failure(address, key=key, timeout_s=0.5 if silent else 20)
    assert failed.kind is ProbeFailure.TRANSPORT
    assert words in str(failed)
    assert caplog.records == []


def test_a_connection_that_breaks_during_the_login_is_no_refused_key(
    tmp_path: Path, key: KeyPair, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_asyncssh(tmp_path, key, "drop")
    try:
        failed = failure(server.address, key=key)
    finally:
        server.stop()
    assert failed.kind is ProbeFailure.TRANSPORT
    assert "during the login" in str(failed)
    assert caplog.records == []


def test_a_changed_host_key_is_told_from_a_refused_one_and_never_sees_our_key(
    tmp_path: Path, server: Server, key: KeyPair, other_key: KeyPair, caplog: pytest.LogCaptureFixture
) -> None:
    pin = HostKeyPin()
    log_in(server, key, pin).close()
    pinned = pin.key
    (tmp_path / "impostor").mkdir()
    impostor = start_asyncssh(tmp_path / "impostor", key)
    try:
        failed = failure(impostor.address, key=key, pin=pin)
        assert failed.kind is ProbeFailure.HOST_KEY
        # Had the key been shown, this one would be refused as AUTHENTICATION.
        assert failure(impostor.address, key=other_key, pin=pin).kind is ProbeFailure.HOST_KEY
    finally:
        impostor.stop()
    assert pin.key is pinned
    log_in(server, key, pin).close()
    assert caplog.records == []


def test_a_server_that_refuses_us_is_not_pinned(server: Server, key: KeyPair, other_key: KeyPair) -> None:
    pin = HostKeyPin()
    with pytest.raises(ConnectFailed):
        log_in(server, other_key, pin)
    assert pin.key is None
    log_in(server, key, pin).close()
    assert pin.key is not None


@pytest.fixture
def dead() -> Iterator[SshAddress]:
    """An address at which nothing listens."""
    with refusing() as port:
        yield direct(port)


def test_direct_first_then_the_proxy(
    server: Server, key: KeyPair, dead: SshAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vastgpu.ssh.login._HEAD_START_S", 60.0)  # silence is not what is tested
    proxy = SshAddress(server.address.host, server.address.port, "proxy")

    def used(*addresses: SshAddress) -> SshAddress:
        with contextlib.closing(connect(addresses, key, HostKeyPin(), timeout_s=20, user=server.user)) as connection:
            return connection.address

    assert used(proxy, server.address) == server.address
    assert used(dead, proxy) == proxy
    assert used(proxy, dead) == proxy


def test_the_failure_of_each_address_is_told(server: Server, other_key: KeyPair, dead: SshAddress) -> None:
    proxy = SshAddress(server.address.host, server.address.port, "proxy")
    with pytest.raises(ConnectFailed) as caught:
        connect([proxy, dead], other_key, HostKeyPin(), timeout_s=20, user=server.user)
    assert [(each.address, each.kind) for each in caught.value.failures] == [
        (dead, ProbeFailure.REFUSED),
        (proxy, ProbeFailure.AUTHENTICATION),
    ]
    assert str(dead) in str(caught.value)
    assert str(proxy) in str(caught.value)


def test_no_address_at_all(key: KeyPair) -> None:
    with pytest.raises(ValueError, match="no address"):
        connect([], key, HostKeyPin(), timeout_s=1)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("unreachable refused", "refused"),
        ("refused transport", "transport"),
        ("transport authentication unreachable", "authentication"),
        ("host_key authentication", "host_key"),
    ],
)
def test_the_failure_nearest_to_a_login_speaks_for_all(kinds: str, expected: str) -> None:
    failures = [AddressFailure(direct(22), ProbeFailure(kind), kind) for kind in kinds.split()]
    assert ConnectFailed(failures).kind is ProbeFailure(expected)
