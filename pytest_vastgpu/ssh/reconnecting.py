"""The one connection to an instance: made anew when it broke, shared by all who need it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Sequence

from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.ssh.base import Connector


class ReconnectingConnection:
    """Keeps one connection to an instance alive. Any thread may use it.

    :param addresses: Where its SSH server is reached, the best first.
    """

    def __init__(self, connector: Connector, addresses: Sequence[SshAddress]) -> None:
        self._addresses = tuple(addresses)
        self._dial: Callable[[], Connection] = connector.dialler(self._addresses)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False

    def connection(self) -> Connection:
        """The living connection; connects where there is none.

        :raises ConnectFailed: if no address lets us in, or it was closed.
        """
        with self._lock:
            if self._closed:
                raise self._over()
            if self._connection is None or not self._connection.alive:
                if self._connection is not None:
                    self._connection.close()
                self._connection = self._dial()
                if self._closed:  # meanwhile
                    self._connection.close()
                    raise self._over()
            return self._connection

    def connection_if_any(self) -> Connection | None:
        """The living connection, or None where none can be had: for those who can do without."""
        try:
            return self.connection()
        except ConnectFailed:
            return None

    def living(self) -> Connection | None:
        """The connection if there is one now; for those who must not wait."""
        connection = self._connection
        return connection if connection is not None and connection.alive else None

    def run(self, command: str, timeout_s: float, *, spare: bool = False) -> ProbeResult:
        """Run a command on the instance. See :meth:`Connection.run`."""
        return self.connection().run(command, timeout_s=timeout_s, spare=spare)

    def close(self) -> None:
        """Close the connection for good. Does not wait for one that is being made: its maker closes it."""
        self._closed = True
        connection = self._connection
        if connection is not None:
            connection.close()

    def _over(self) -> ConnectFailed:
        return ConnectFailed([AddressFailure(self._addresses[0], ProbeFailure.TRANSPORT, "the connection was closed")])
