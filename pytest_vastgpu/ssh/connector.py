"""Connects to instances by SSH from this machine: the real implementation of ``Connector``."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

from pytest_vastgpu.ssh import known_hosts
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.ssh.base import Forward
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.connection import connect
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.login import HostKeyPin
from pytest_vastgpu.ssh.tunnel import Tunnel

BANNER_S = 1.0
"""How long to wait for the SSH banner of an address that may not belong to the instance yet."""
ANSWER_S = 3.0
"""Time for some round trips to anywhere in the world, and for one lost packet to be sent again."""

_log = logging.getLogger(__name__)


class SshConnector:
    """Implements :class:`~pytest_vastgpu.ssh.base.Connector`.

    :param connect_s: Time limit of one attempt to connect, in seconds.
    :param hosts: File in which each instance's host key is noted, for other programs; see
        :mod:`pytest_vastgpu.ssh.known_hosts`. None: nowhere.
    """

    def __init__(self, key: KeyPair, connect_s: float, answer_s: float = ANSWER_S, hosts: Path | None = None) -> None:
        self._key = key
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._hosts = hosts

    def dialler(self) -> Callable[[Sequence[SshAddress]], SshConnection]:
        """See :class:`~pytest_vastgpu.ssh.base.Connector`. The first login pins the host key."""
        pin = HostKeyPin()
        noted: set[SshAddress] = set()

        def dial(addresses: Sequence[SshAddress]) -> SshConnection:
            connection = connect(addresses, self._key, pin, timeout_s=self._connect_s)
            if self._hosts is not None and pin.key is not None and (new := set(addresses) - noted):
                noted.update(new)
                try:
                    known_hosts.note(self._hosts, new, pin.key)
                except OSError as error:  # the run itself knows the key
                    _log.warning("%s cannot be written: %s", self._hosts, error)
            return connection

        return dial

    def forward(self, connection: Callable[[], Connection | None], port: int) -> Forward:
        """See :class:`~pytest_vastgpu.ssh.base.Connector`."""

        def ssh() -> SshConnection | None:
            found = connection()
            return found if isinstance(found, SshConnection) else None

        return Tunnel(ssh, port)

    def speaks_ssh(self, address: SshAddress) -> bool:
        """See :class:`~pytest_vastgpu.ssh.base.Connector`."""
        return speaks_ssh(address)

    def answers(self, host: str, port: int) -> bool:
        """See :class:`~pytest_vastgpu.ssh.base.Connector`."""
        return answers(host, port, self._answer_s)


def answers(host: str, port: int, within_s: float = ANSWER_S) -> bool:
    """Whether a port of a host answers at all, even with a refusal."""
    try:
        with socket.create_connection((host, port), within_s):
            return True
    except ConnectionError:  # refused or reset, so a host is there
        return True
    except OSError:
        return False


def speaks_ssh(address: SshAddress) -> bool:
    """Whether a server there sends the banner of SSH. This uses no key."""
    try:
        with socket.create_connection((address.host, address.port), BANNER_S) as sock:
            return sock.recv(4, socket.MSG_WAITALL) == b"SSH-"
    except OSError:
        return False
