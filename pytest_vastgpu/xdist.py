"""What only matters when xdist's workers share a run. Never imports xdist: its hooks are called by name."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin import SETTINGS

if TYPE_CHECKING:
    from pytest_vastgpu.collected import Collected
    from pytest_vastgpu.lifecycle.instance import Caller
    from pytest_vastgpu.lifecycle.instance import Lease
    from pytest_vastgpu.model import Workload
    from pytest_vastgpu.owner import Owner

LINE_KEY = "vastgpu_line"
"""Under this a worker finds where to call."""


class Controller:
    """Plugin object of a process that may distribute tests: workers call it over a socket, it owns the instances."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._line: tuple[str, str] | None = None
        self._workers = 0
        self._collected: Collected | None = None
        self._owner: Owner | None = None
        self._open = threading.Event()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to call."""
        self._workers += 1
        if self._line is None:
            self._line = self._listen()
        node.workerinput[LINE_KEY] = self._line

    def _listen(self) -> tuple[str, str]:
        from pytest_vastgpu.lifecycle.line import LineServer

        desk = ("release", "run", "logs", "cost", "spent", "failed", "lost")
        server = LineServer(
            {
                "collected": self._take,
                "acquire": self._acquire,
                "done": self._done,
                **{name: lambda _, *arguments, name=name: getattr(self._broker(), name)(*arguments) for name in desk},
            },
            self._hung_up,
        )
        self._config.add_cleanup(server.close)
        return server.address, server.token

    def _take(self, _caller: Caller, collected: Collected) -> None:
        """All workers collect the same; what the first says is kept."""
        if self._collected is None:
            self._collected = collected

    def _broker(self) -> Any:
        self._open.wait()
        if self._owner is None:
            raise VastGpuError("the run ended before anything was rented")
        return self._owner.broker

    def _acquire(self, caller: Caller, test: str, workload: Workload, exclusive: bool) -> Lease:
        lease: Lease = self._broker().acquire(test, workload, exclusive, caller)
        return lease

    def _done(self, caller: Caller, test: str) -> None:
        self._broker().done(test, caller)

    def _hung_up(self, caller: Caller) -> None:
        if self._owner is not None:
            self._owner.broker.hung_up(caller)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """The first worker to finish collecting has said what is needed: check everything before the first rent."""
        if self._owner is None and self._collected is not None:
            from pytest_vastgpu.owner import Owner

            if self._collected.problems:
                raise pytest.UsageError(*self._collected.problems)
            self._owner = Owner(self._config, self._config.stash[SETTINGS], distributed=True)
            if self._config.getoption("dist", "no") == "each":
                self._collected.run_in_each(self._workers)
            self._owner.expect(self._collected, self._workers)
            self._config.pluginmanager.register(self._owner, "vastgpu-owner")
            self._open.set()

    def pytest_unconfigure(self) -> None:
        """Whoever still waits for an owner waits in vain."""
        self._open.set()
