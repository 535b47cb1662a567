"""Support for runs that xdist distributes. It never imports xdist: xdist calls its hooks by name."""

from __future__ import annotations

import select
import socket
import sys
import threading
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.plugin.options import TIMEOUTS

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
        self._collected = 0
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
        self._collected += 1
        if self._controller is not None or self._listener is None:
            return
        if self._listener.wanted:
            self._open(self._listener)
        elif self._collected == self._workers:
            self._await_late_call(self._listener)

    def _open(self, listener: Listener, *, late: bool = False) -> None:
        from pytest_vastgpu.plugin.controller import Controller

        in_each = self._config.getoption("dist", "no") == "each"
        self._controller = Controller(self._config, listener, None, workers=self._workers, in_each=in_each, late=late)
        self._config.pluginmanager.register(self._controller, "vastgpu-controller")

    def _await_late_call(self, listener: Listener) -> None:
        """Open the supervisor when a running test asks: xdist calls no hook while its workers wait."""
        ends, end = socket.socketpair()

        def stop() -> None:
            end.close()
            # While it opens a run, each answer has this limit. What is left of it ends with this process.
            waiting.join(self._config.stash.get(TIMEOUTS, DEFAULTS).answers_s)
            ends.close()

        def wait() -> None:
            poll = select.poll()
            poll.register(listener.socket, select.POLLIN)
            poll.register(ends, select.POLLIN)
            if ends.fileno() in {ready for ready, _ in poll.poll()}:
                return
            try:
                self._open(listener, late=True)
            except pytest.UsageError as error:
                sys.stderr.write(f"{error}\n")
                listener.remove()  # the test that asks learns that there is no supervisor

        waiting = threading.Thread(target=wait, name="vastgpu-late", daemon=True)
        waiting.start()
        self._config.add_cleanup(stop)
