"""The forwarded ports of an instance, its servers' own and others: each is forwarded when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.ssh.base import Forward


class ForwardedPorts:
    """The forwarded ports of one instance, shared by its servers and its tests. Thread-safe.

    :param forward: Forwards a port.
    """

    def __init__(self, forward: Callable[[int], Forward]) -> None:
        self._forward = forward
        self._lock = threading.Lock()
        self._open: dict[int, Forward] = {}
        self._closed = False

    def open(self, port: int) -> Forward:
        """The forwarded port: the same each time, until the instance is given back.

        :raises VastGpuError: after :meth:`close`.
        """
        with self._lock:
            if self._closed:
                raise VastGpuError(f"port {port} leads nowhere: the instance is given back")
            if port not in self._open:
                self._open[port] = self._forward(port)
            return self._open[port]

    def close(self) -> None:
        """Close all of them for good."""
        with self._lock:
            self._closed = True
            while self._open:
                self._open.popitem()[1].close()
