"""The shared connection to an instance, which reconnects after it breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.ssh.base import Connector


class ReconnectingConnection:
    """Keeps one connection to an instance open. Thread-safe.

    :param addresses: Addresses of its SSH server, at least one, the best first.
    """

    def __init__(self, connector: Connector, addresses: Sequence[SshAddress]) -> None:
        self._addresses = tuple(addresses)
        self._dial: Callable[[Sequence[SshAddress]], Connection] = connector.dialler()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._former: Connection | None = None
        """The connection through the proxy that a direct one has replaced: commands may still be under way on it."""
        self._closed = False

    def connection(self) -> Connection:
        """The open connection; connects where there is none.

        :raises ConnectFailed: if every address fails, or after :meth:`close`.
        """
        with self._lock:
            if self._closed:
                raise self._over()
            if self._connection is None or not self._connection.alive:
                if self._connection is not None:
                    self._connection.close()
                self._connection = self._dial(self._addresses)
                if self._closed:  # closed during the dial
                    self._connection.close()
                    raise self._over()
            return self._connection

    def knows(self, addresses: Sequence[SshAddress]) -> None:
        """Connect at these addresses from now on. One through the proxy is replaced where a direct one can be made."""
        self._addresses = tuple(addresses)
        direct = [address for address in addresses if address.kind == "direct"]
        with self._lock:
            former = self.living()
            if self._closed or former is None or former.address.kind == "direct" or not direct:
                return
            try:
                self._connection = self._dial(direct)
            except ConnectFailed:
                return
            if self._former is not None:
                self._former.close()
            self._former = former
            if self._closed:  # closed during the dial
                self._connection.close()

    def connection_if_any(self) -> Connection | None:
        """The open connection; connects where there is none, and returns None where that fails."""
        try:
            return self.connection()
        except ConnectFailed:
            return None

    def living(self) -> Connection | None:
        """The open connection, if there is one; never connects, and so never waits."""
        connection = self._connection
        return connection if connection is not None and connection.alive else None

    def run(
        self,
        command: str,
        timeout_s: float,
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        spare: bool = False,
    ) -> ProbeResult:
        """Run a command on the instance. See :meth:`Connection.run`."""
        return self.connection().run(command, timeout_s=timeout_s, stdin=stdin, env=env, spare=spare)

    def close(self) -> None:
        """Close the connection for good, without waiting: a thread that is connecting closes its own connection."""
        self._closed = True
        for connection in (self._connection, self._former):
            if connection is not None:
                connection.close()

    def _over(self) -> ConnectFailed:
        return ConnectFailed([AddressFailure(self._addresses[0], ProbeFailure.TRANSPORT, "the connection was closed")])
