"""Logs in by SSH: tries the addresses, checks the host key, authenticates with our key, and classifies failures.

The kinds of failures:

=================  =====================================================================================
``REFUSED``        the host answers that nothing listens on the port
``UNREACHABLE``    no answer to the first packet in time, no route, or a name that does not resolve
``TRANSPORT``      TCP is connected, but then silence, a reset or an end before the login; or no
                   algorithm in common
``HOST_KEY``       the server's host key is not the one pinned for this instance; it did not get our key
``AUTHENTICATION`` the server refuses our key
=================  =====================================================================================
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING
from typing import TypeAlias

import paramiko

from pytest_vastgpu.model import ProbeFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.execution import LEAVE_S
from pytest_vastgpu.ssh.keys import KeyPair

_HEAD_START_S = 1.0
"""Silence of one address after which the next one is tried, too. TCP has sent its first packet twice within it."""
_KEEPALIVE_S = 20
"""Below the shortest time after which NATs and proxies commonly drop idle connections (30 s)."""
_DEAD_AFTER_MS = 60_000
"""The connection ends when sent data is not acknowledged for this time."""
_PARAMIKO_LOG = "pytest_vastgpu.ssh.paramiko"
# paramiko logs each failed login as an error with a traceback, line by line. We raise an exception instead; its log is
# only for users who enable debug output.
_log = logging.getLogger(_PARAMIKO_LOG)
_log.addFilter(lambda _: _log.isEnabledFor(logging.DEBUG))


class HostKeyPin:
    """The host key of one instance: that of the first login, for the instance's whole life and all its addresses.

    A host key is pinned only after its server has accepted our key. A marketplace reuses addresses, and one that still
    leads to another user's container must not become the instance's identity.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: paramiko.PKey | None = None

    @property
    def key(self) -> paramiko.PKey | None:
        """The pinned key; None before the first login."""
        return self._key

    def admits(self, key: paramiko.PKey) -> bool:
        """Whether a server with this host key may be the instance."""
        return self._key is None or self._key.asbytes() == key.asbytes()

    def pin(self, key: paramiko.PKey) -> bool:
        """Pin the key of a server that accepted ours; False where another thread has pinned another one meanwhile."""
        with self._lock:
            if self._key is None:
                self._key = key
            return self.admits(key)


_Entered: TypeAlias = "tuple[paramiko.Transport, socket.socket]"


class _Refused(Exception):
    """Logging in at one address failed."""

    def __init__(self, kind: ProbeFailure, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def log_in(
    addresses: Sequence[SshAddress], key: KeyPair, pin: HostKeyPin, *, timeout_s: float, user: str
) -> tuple[paramiko.Transport, SshAddress, socket.socket]:
    """Log in; returns the transport, the address and the socket.

    Direct addresses come first. Where one stays silent, the next one is tried in parallel: waiting for a port behind a
    firewall would cost each login its whole time limit, although the proxy works.

    :raises ConnectFailed: if every address fails.
    """
    if not addresses:
        raise ValueError("there is no address to connect to")
    ordered = sorted(addresses, key=lambda each: each.kind != "direct")
    waiting, trying = deque(ordered), 0
    failures: dict[SshAddress, AddressFailure] = {}
    answers = _Answers()
    ends = 0.0

    def attempt(address: SshAddress) -> None:
        try:
            answers.succeeded(address, _enter(address, key, pin, user, timeout_s))
        except BaseException as error:  # noqa: BLE001 - raised in the caller
            answers.said.put((address, error))

    try:
        while waiting or trying:
            if waiting:
                # An abandoned attempt ends by its time limit, without a wait for it.
                threading.Thread(
                    target=attempt, args=(waiting.popleft(),), name="vastgpu-ssh-login", daemon=True
                ).start()
                trying += 1
                ends = time.monotonic() + timeout_s + LEAVE_S
            try:
                address, answer = answers.said.get(
                    timeout=_HEAD_START_S if waiting else max(0.0, ends - time.monotonic())
                )
            except queue.Empty:
                if not waiting:  # no limit covers the look-up of a name
                    late = f"no answer within {timeout_s:g} s, nor an address for its name"
                    for each in ordered:
                        failures.setdefault(each, AddressFailure(each, ProbeFailure.UNREACHABLE, late))
                    break
                continue
            trying -= 1
            if isinstance(answer, _Refused):
                failures[address] = AddressFailure(address, answer.kind, str(answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                return answer[0], address, answer[1]
    finally:
        answers.close()
    raise ConnectFailed([failures[address] for address in ordered])


class _Answers:
    """The results of one login's attempts. A login that succeeds after the close is closed at once."""

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[tuple[SshAddress, _Entered | BaseException]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False

    def succeeded(self, address: SshAddress, entered: _Entered) -> None:
        with self._lock:
            if not self._closed:
                self.said.put((address, entered))
                return
        close_transport(*entered)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                _, answer = self.said.get_nowait()
                if not isinstance(answer, BaseException):
                    close_transport(*answer)


def _dial(address: SshAddress, timeout_s: float) -> socket.socket:
    try:
        sock = socket.create_connection((address.host, address.port), timeout_s)
    except ConnectionRefusedError as error:
        raise _Refused(ProbeFailure.REFUSED, "connection refused, nothing listens there yet") from error
    except ConnectionError as error:
        raise _Refused(ProbeFailure.TRANSPORT, f"the connection broke at once: {error.strerror}") from error
    except TimeoutError as error:
        raise _Refused(ProbeFailure.UNREACHABLE, f"no answer within {timeout_s:g} s") from error
    except socket.gaierror as error:
        raise _Refused(ProbeFailure.UNREACHABLE, f"the name does not resolve: {error.strerror}") from error
    except OSError as error:
        raise _Refused(ProbeFailure.UNREACHABLE, f"cannot be reached: {error.strerror}") from error
    # Without TCP_NODELAY every command and request waits some 40 ms for Nagle's algorithm, and paramiko leaves it on.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux only
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
    return sock


def _enter(address: SshAddress, key: KeyPair, pin: HostKeyPin, user: str, limit_s: float) -> _Entered:
    """Connect, negotiate, check the host key, authenticate. On failure, leave no socket and no thread behind."""
    deadline = time.monotonic() + limit_s
    sock = _dial(address, limit_s)
    transport = paramiko.Transport(sock)
    try:
        transport.set_log_channel(_PARAMIKO_LOG)
        _handshake(transport, pin, deadline, limit_s)
        host_key = transport.get_remote_server_key()
        _expect(pin.admits(host_key), host_key)
        _authenticate(transport, key, user, deadline)
        _expect(pin.pin(host_key), host_key)
        transport.set_keepalive(_KEEPALIVE_S)
    except BaseException as error:  # any error: leave neither the socket nor the thread behind
        close_transport(transport, sock)
        if isinstance(error, paramiko.SSHException | EOFError | OSError):
            raise _Refused(ProbeFailure.TRANSPORT, f"the connection broke: {_words(error)}") from error
        raise
    return transport, sock


def _handshake(transport: paramiko.Transport, pin: HostKeyPin, deadline: float, limit_s: float) -> None:
    # paramiko's own limits are so long that ours decides, and every time-out has the same message.
    transport.banner_timeout = transport.handshake_timeout = 2 * limit_s + 60
    if pin.key is not None:
        # A server has several keys: ask for the pinned one.
        options = transport.get_security_options()
        kind = pin.key.get_name()
        names = [name for name in options.key_types if name == kind or (kind == "ssh-rsa" and name.startswith("rsa-"))]
        options.key_types = [*names, *(name for name in options.key_types if name not in names)]
    done = threading.Event()
    transport.start_client(event=done)
    if not done.wait(max(0.001, deadline - time.monotonic())):
        raise _Refused(ProbeFailure.TRANSPORT, f"accepts connections, but no SSH handshake within {limit_s:g} s")
    if not transport.is_active():
        error = transport.get_exception()
        raise _Refused(ProbeFailure.TRANSPORT, f"no SSH handshake: {_words(error)}") from error


def _authenticate(transport: paramiko.Transport, key: KeyPair, user: str, deadline: float) -> None:
    done = threading.Event()
    transport.auth_publickey(user, key.pkey, event=done)
    in_time = done.wait(max(0.001, deadline - time.monotonic()))
    if transport.is_authenticated():
        return
    error = transport.get_exception()
    if not in_time:
        raise _Refused(ProbeFailure.TRANSPORT, "no answer to our login in time")
    if transport.is_active() or isinstance(error, paramiko.AuthenticationException):
        raise _Refused(ProbeFailure.AUTHENTICATION, f"the server refuses the key of user {user} ({key.source})")
    raise _Refused(ProbeFailure.TRANSPORT, f"the connection broke during the login: {_words(error)}") from error


def _expect(admitted: bool, host_key: paramiko.PKey) -> None:
    if not admitted:
        shown = f"{host_key.get_name()} {host_key.fingerprint}"
        raise _Refused(ProbeFailure.HOST_KEY, f"the host key {shown} is not the one seen at the first login")


def _words(error: BaseException | None) -> str:
    if error is None or isinstance(error, EOFError):
        return "closed by the other side"
    # paramiko appends the cause to this prefix without a space.
    text = str(error)
    prefix = "Error reading SSH protocol banner"
    return f"closed before its banner {text[len(prefix) :]}".strip() if text.startswith(prefix) else text or repr(error)


def close_transport(transport: paramiko.Transport, sock: socket.socket) -> None:
    """Close a transport and its socket, and wait a little for the end of paramiko's thread."""
    with contextlib.suppress(OSError):  # it is not connected any more
        sock.shutdown(socket.SHUT_RDWR)  # wakes paramiko's thread at once, not at its next tick
    transport.close()
    sock.close()
    if transport.is_alive() and transport is not threading.current_thread():
        transport.join(LEAVE_S)
    transport.packetizer.complete_handshake()  # a handshake broken off leaves a timer thread behind otherwise
