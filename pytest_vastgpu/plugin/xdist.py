"""Support for runs that xdist distributes. It never imports xdist: xdist calls its hooks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import pytest

if TYPE_CHECKING:
    from pytest_vastgpu.client.listener import Listener
    from pytest_vastgpu.plugin.controller import Controller

LINE_KEY = "vastgpu_line"
"""Key under which a worker finds the supervisor's address."""


class XdistController:
    """Plugin object of a process that may distribute tests: workers that need an instance call the supervisor.

    Until a worker calls there is only a socket, on which no process listens yet.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._listener: Listener | None = None
        self._workers = 0
        self._controller: Controller | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker the supervisor's address."""
        self._workers += 1
        if self._listener is None:
            from pytest_vastgpu.client.listener import Listener

            self._listener = Listener()
            self._config.add_cleanup(self._listener.remove)
        node.workerinput[LINE_KEY] = tuple(self._listener.address)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Check for a connection: a worker that needs an instance has connected before it reports its collection."""
        if self._controller is None and self._listener is not None and self._listener.wanted:
            from pytest_vastgpu.plugin.controller import Controller

            in_each = self._config.getoption("dist", "no") == "each"
            self._controller = Controller(self._config, self._listener, None, workers=self._workers, in_each=in_each)
            self._config.pluginmanager.register(self._controller, "vastgpu-controller")
