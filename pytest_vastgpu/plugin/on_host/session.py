"""The run: rents hosts, has xdist run the tests on them, and gives them back.

xdist's session does all that concerns tests. What differs here is where its workers are, that they come and go with
their hosts, and what the end of one means.
"""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from pathlib import PurePosixPath
from queue import Empty
from typing import Any

import execnet
import pytest
from xdist.dsession import DSession
from xdist.workermanage import NodeManager
from xdist.workermanage import WorkerController

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.controller import Controller
from pytest_vastgpu.plugin.on_host import arguments
from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.plugin.on_host import pipes
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host import remote
from pytest_vastgpu.plugin.on_host import runner
from pytest_vastgpu.plugin.on_host.hosts import Host
from pytest_vastgpu.plugin.on_host.hosts import workloads
from pytest_vastgpu.settings import HostSettings

LOOK_S = 0.5


class HostSession(DSession):
    """xdist's session with workers on rented hosts. Registered in the place of xdist's own."""

    def __init__(self, config: pytest.Config, settings: HostSettings) -> None:
        super().__init__(config)
        self._settings = settings
        self._awaited: set[str] = set()
        """The names of hosts that are on their way."""
        self._folder = tempfile.TemporaryDirectory(prefix="vastgpu-")
        config.add_cleanup(self._folder.cleanup)

    # ------------------------------------------------------------- renting

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Rent the hosts. Their workers start as soon as each is ready."""
        self._session = session
        # Only now: with workers named earlier, xdist would make its own session.
        self.config.option.tx = ["popen"]
        self.nodemanager = self._manager = NodeManager(self.config, specs=[])
        try:
            wanted = workloads(self._settings, self.config.rootpath)
        except VastGpuError as error:
            raise pytest.UsageError(f"vastgpu: {error}") from None
        self._listener = Listener()
        self.config.add_cleanup(self._listener.remove)
        collected = Collected({name: Expected(workload) for name, workload in wanted.items()})
        self._controller = Controller(self.config, self._listener, collected, own_thread=True)
        self.config.pluginmanager.register(self._controller, "vastgpu-controller")
        self._leases = self._controller.calls
        self._awaited = set(wanted)
        for name, workload in wanted.items():
            threading.Thread(target=self._rent, args=(name, workload), name="vastgpu-host", daemon=True).start()

    def _rent(self, name: str, workload: Workload) -> None:
        try:
            lease = self._leases.acquire(name, workload, False)
            about = self._leases.run(lease.label, f"cat .vastgpu/work/{environment.ABOUT}", 30.0)  # type: ignore[attr-defined]
            said = json.loads(about.stdout)
            workers = self._settings.workers_per_host or max(1, workload.gpus)
            host = Host(name, lease, said["python"], said["version"], PurePosixPath(said["work"]), workers)
        except (VastGpuError, Cancelled, ValueError) as error:
            self.queue.put(("hostfailed", {"name": name, "error": error}))
        else:
            self.queue.put(("hostready", {"host": host}))

    def worker_hostready(self, host: Host) -> None:
        """Start the workers of a host."""
        self._awaited.discard(host.name)
        way = pipes.to_proxy(host, self._listener.address, Path(self._folder.name))
        self._manager.group.makegateway(f"popen//id={host.name.replace(' ', '-')}//execmodel=thread//python={way}")
        if not self._active_nodes:
            self._scheduler.numnodes = host.workers
        for _ in range(host.workers):
            spec = f"execmodel=main_thread_only//popen//via={host.name.replace(' ', '-')}"
            node = self._new_node(spec, host)
            self._active_nodes.add(node)

    def worker_hostfailed(self, name: str, error: Exception) -> None:
        """No host could be had."""
        self._awaited.discard(name)
        if not self._awaited and not self._active_nodes:
            pytest.exit(f"vastgpu: {error}", returncode=pytest.ExitCode.INTERRUPTED)
        self.report_line(f"vastgpu: {name}: {error}")

    def _new_node(self, text: str, host: Host) -> WorkerController:
        spec = execnet.XSpec(text)
        self._manager.group.allocate_id(spec)
        spec.python = pipes.to_worker(host, str(spec.id))
        self._manager.specs.append(spec)
        self._starting = host
        return self._manager.setup_node(spec, self.queue.put)

    # ------------------------------------------------------------- workers

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        """Tell a worker where it is."""
        host = self._starting
        there = host.work / project.FOLDER
        given = [str(each) for each in self.config.invocation_params.args]
        node.workerinput["vastgpu_host"] = {
            "path": [str(host.work / runner.FOLDER)],
            "directory": str(there),
            "arguments": [*arguments.on_host(given, self.config.rootpath, there), f"--rootdir={there}"],
            "basetemp": str(host.work / "tmp" / node.gateway.id),
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_getremotemodule(self) -> Any:
        """What workers run."""
        return remote

    @property
    def _scheduler(self) -> Any:
        """Xdist's scheduler. All of them have what its protocol lacks: how many workers it waits for at first."""
        return self.sched

    def loop_once(self) -> None:
        """Process one event, of a worker or of a host."""
        while True:
            if not self._active_nodes and not self._awaited:
                self.triggershutdown()
                raise RuntimeError("no host is left")
            try:
                name, kwargs = self.queue.get(timeout=LOOK_S)
                break
            except Empty:
                continue
        getattr(self, f"worker_{name}")(**kwargs)
        if self._scheduler.tests_finished:
            self.triggershutdown()
