"""What only matters when xdist's workers share a run. Never imports xdist: its hooks are called by name."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_vastgpu.errors import VastGpuError

if TYPE_CHECKING:
    from pytest_vastgpu.lifecycle.instance import Lease
    from pytest_vastgpu.marks import Collected
    from pytest_vastgpu.model import Workload
    from pytest_vastgpu.options import Settings
    from pytest_vastgpu.owner import Owner

SOCKET_KEY = "vastgpu_socket"


class Controller:
    """Plugin object of a process that may distribute tests: workers call it over a socket, it owns the instances."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._socket: Path | None = None
        self._collected: Collected | None = None
        self._owner: Owner | None = None
        self._open = threading.Event()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to call."""
        if self._socket is None:
            self._socket = self._listen()
        node.workerinput[SOCKET_KEY] = str(self._socket)

    def _listen(self) -> Path:
        from pytest_vastgpu.lifecycle.line import LineServer

        directory = tempfile.TemporaryDirectory(prefix="vastgpu-")
        socket = Path(directory.name) / "line"
        desk = ("release", "run", "logs", "cost", "lost")
        server = LineServer(
            socket,
            {
                "collected": self._take,
                "acquire": self._acquire,
                **{name: lambda *arguments, name=name: getattr(self._broker(), name)(*arguments) for name in desk},
            },
        )
        self._config.add_cleanup(directory.cleanup)
        self._config.add_cleanup(server.close)
        return socket

    def _take(self, collected: Collected) -> None:
        """All workers collect the same; what the first says is kept."""
        if self._collected is None:
            self._collected = collected

    def _broker(self) -> Any:
        self._open.wait()
        if self._owner is None:
            raise VastGpuError("the run ended before anything was rented")
        return self._owner.broker

    def _acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        lease: Lease = self._broker().acquire(test, workload, exclusive)
        return lease

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """The first worker to finish collecting has said what is needed: check everything before the first rent."""
        if self._owner is None and self._collected is not None:
            from pytest_vastgpu.owner import Owner

            if self._collected.problems:
                raise pytest.UsageError(*self._collected.problems)
            self._owner = Owner(self._config, self._settings, distributed=True)
            self._owner.expect(self._collected)
            self._config.pluginmanager.register(self._owner, "vastgpu-owner")
            self._open.set()

    def pytest_unconfigure(self) -> None:
        """Whoever still waits for an owner waits in vain."""
        self._open.set()
