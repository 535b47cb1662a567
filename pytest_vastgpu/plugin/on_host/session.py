"""The run: has xdist run the tests on rented hosts.

xdist's session does all that concerns tests. What differs here is that workers come and go with their hosts, and what
the end of one means. That is decided in :mod:`.losses`; what takes time is done in :mod:`.fleet`.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections import Counter
from collections.abc import Sequence
from queue import Empty
from typing import Any

import execnet
import pytest
from xdist.dsession import DSession
from xdist.report import report_collection_diff
from xdist.workermanage import NodeManager
from xdist.workermanage import WorkerController

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.controller import Controller
from pytest_vastgpu.plugin.on_host import arguments
from pytest_vastgpu.plugin.on_host import losses
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host import remote
from pytest_vastgpu.plugin.on_host import runner
from pytest_vastgpu.plugin.on_host.fetch import Fetching
from pytest_vastgpu.plugin.on_host.fleet import Fleet
from pytest_vastgpu.plugin.on_host.fleet import Rented
from pytest_vastgpu.plugin.on_host.held import HeldReports
from pytest_vastgpu.plugin.on_host.hosts import workloads
from pytest_vastgpu.plugin.on_host.losses import Ending
from pytest_vastgpu.plugin.on_host.losses import Kind
from pytest_vastgpu.plugin.on_host.schedules import OWN
from pytest_vastgpu.plugin.on_host.schedules import Schedule
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.settings import HostSettings

IDLE_S = 0.5


class Node(WorkerController):
    """A worker on a host."""

    rented: Rented
    lost = False
    """Whether it has ended, and it is being found out why."""

    def sendcommand(self, name: str, **kwargs: object) -> None:
        """Send a command. One to a worker that is gone is lost with it: the event of its end is on its way."""
        with contextlib.suppress(OSError):
            super().sendcommand(name, **kwargs)


class HostSession(DSession):
    """xdist's session with workers on rented hosts. Registered in the place of xdist's own."""

    def __init__(self, config: pytest.Config, settings: HostSettings) -> None:
        super().__init__(config)
        self._settings = settings
        self._held = HeldReports()
        self._runs = losses.LostRuns()
        self._places = losses.Places()
        self._hosts: list[Rented] = []
        """Those that are ready."""
        self._coming: Counter[str] = Counter()
        """How many workers are on their way, by the name of their host."""
        self._lost: dict[Node, str | None] = {}
        """Workers that have ended for a reason yet to be found out, each with the test that it ran."""
        self._over: set[str] = set()
        """Tests that have been reported."""
        self._why = ""
        """Why a host was last lost, or could not be had."""
        self._machines = False
        """Whether that was a machine's fault."""
        self._given_up = False

    # ------------------------------------------------------------- hosts

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Rent the hosts. Their workers start as soon as each is ready."""
        self._session = session
        # Only now: with workers named earlier, xdist would make its own session.
        self.config.option.tx = ["popen"]
        self.nodemanager = self._manager = NodeManager(self.config, specs=[])
        try:
            wanted = workloads(self._settings, self.config)
        except VastGpuError as error:
            raise pytest.UsageError(f"vastgpu: {error}") from None
        self._each = self._settings.workers_per_host or max(1, *(each.gpus for each in wanted.values()))
        if self.config.option.maxworkerrestart is None:
            self._max_worker_restart = 4 * len(wanted) * self._each  # as with -n
        listener = Listener()
        self.config.add_cleanup(listener.remove)
        collected = Collected({name: Expected(workload) for name, workload in wanted.items()})
        self._controller = Controller(self.config, listener, collected, own_thread=True)
        self.config.pluginmanager.register(self._controller, "vastgpu-controller")
        self._fleet = Fleet(self._controller.calls, listener, wanted, self._each, self.queue.put)
        self.config.add_cleanup(self._fleet.remove)
        connect = functools.partial(self._controller.process.line.connect, "pipe")
        self._fetching = Fetching(self.config, self._settings, connect, self._controller.announce)
        self.config.pluginmanager.register(self._fetching, "vastgpu-fetching")
        self._fleet.before_giving_back.append(lambda rented: self._fetching.fetch(rented.name))
        self._rent(*wanted)

    def _rent(self, *names: str) -> None:
        for name in names:
            self._coming[name] = self._each
            self._fleet.rent(name)

    def worker_hostready(self, rented: Rented, gateways: Sequence[execnet.Gateway]) -> None:
        """Workers of a host can begin to collect."""
        self._arrive(rented.name, len(gateways))
        if rented not in self._hosts:
            self._hosts.append(rented)
            self._fetching.ready(rented.host)
        if self.shuttingdown:
            return  # nothing is left to do
        for gateway in gateways:
            self.config.hook.pytest_xdist_newgateway(gateway=gateway)
            node = Node(self._manager, gateway, self.config, self.queue.put)
            node.rented = rented
            gateway.node = node  # type: ignore[attr-defined] # as xdist has it
            self._active_nodes.add(node)
            try:
                node.setup()
            except (OSError, EOFError) as error:
                self.queue.put(("errordown", {"node": node, "error": error}))

    def worker_hostfailed(self, name: str, error: Exception) -> None:
        """No host could be had for a place."""
        self._arrive(name, self._each)
        self._why = f"{error}" or "renting was called off"
        self._machines = isinstance(error, ProvisioningFailed) and error.machines_failed
        self.report_line(f"vastgpu: {name}: {self._why}")

    def worker_hostlost(self, rented: Rented, ending: Ending) -> None:
        """A host is lost, or the connection to it."""
        if rented in self._hosts:
            self._hosts.remove(rented)
        elif rented.over.is_set():
            return
        self._coming.pop(rented.name, None)
        self._fleet.forget(rented)
        if ending.kind is Kind.HOST:
            self._fetching.lost(rented.name)
        self._why, self._machines = f"{rented.name} was lost: {ending.story}", ending.blames_machine
        for node in [node for node in self._active_nodes if node.rented is rented]:
            if node not in self._lost:
                self._lost[node] = self._schedule.remove(node)
            self.worker_looked(node, None, ending)
        if self._places.lost(rented.name) and ending.kind is Kind.CONNECTION and self._left:
            self._places.empty.discard(rented.name)
            self._rent(rented.name)

    def _arrive(self, name: str, workers: int) -> None:
        self._coming[name] -= workers
        self._coming = +self._coming

    def _supply(self) -> None:
        """Have as many workers as what is left needs, and no more: start them, rent hosts, or give hosts back."""
        schedule, waiting = self._schedule, self._schedule.waiting
        if self.shouldstop or self._summary_report or self._given_up:
            return
        if waiting:
            self.shuttingdown = False
        able = sum(not node.shutting_down and node not in self._lost for node in self._active_nodes)
        if waiting and not able and not self._coming:
            for rented in self._hosts:
                if waiting > self._coming.total():
                    self._start(rented, min(self._each, waiting))
        if self._left:
            workers = able + self._coming.total()
            self._rent(*self._places.to_rent(left=self._left, workers=workers, each=self._each))
        if not self._active_nodes and not self._coming and (waiting or not schedule.begun):
            self._give_up()
        elif schedule.begun and not waiting and not self._lost:
            used = {node.rented for node in self._active_nodes}
            for rented in [each for each in self._hosts if each not in used and not self._coming[each.name]]:
                self._hosts.remove(rented)
                self._fleet.give_back(rented)

    def _give_up(self) -> None:
        """No host is left: what has not run is an error of infrastructure, not of the tests."""
        if not self._why:
            raise RuntimeError("Unexpectedly no active workers available")  # as xdist says it
        if not self._schedule.begun:
            pytest.exit(f"vastgpu: no test could run: {self._why}", returncode=pytest.ExitCode.INTERRUPTED)
        self._given_up = True
        for test in self._schedule.tests or ():
            if test not in self._over and not self.shouldstop:
                self._report(test, losses.never_ran(self._why), machines=self._machines)
        self.triggershutdown()

    @property
    def _left(self) -> int:
        """How many tests are not over; as long as nobody has collected, as many as there are workers for."""
        if not self._schedule.begun:
            return sys.maxsize
        return max(self._schedule.waiting, len(self._schedule.ids) - len(self._over))

    # ------------------------------------------------------------- workers

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure_node(self, node: Node) -> None:
        """Tell a worker where it is."""
        host = node.rented.host
        there = host.work / project.FOLDER
        given = [str(each) for each in self.config.invocation_params.args]
        node.workerinput["vastgpu_host"] = {
            "name": host.name,
            "work": str(host.work),
            "path": [str(host.work / runner.FOLDER)],
            "directory": str(there),
            "arguments": [*arguments.on_host(given, self.config.rootpath, there), f"--rootdir={there}"],
            "basetemp": str(host.work / "tmp" / node.gateway.id),
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_getremotemodule(self) -> Any:
        """What workers run."""
        return remote

    @pytest.hookimpl(trylast=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Those of xdist that can run a test again, and the ones that are taught it."""
        own = OWN.get(config.getvalue("dist"))
        return own(config, log) if own else super().pytest_xdist_make_scheduler(config, log)

    def worker_workerready(self, node: Node, workerinfo: Any) -> None:
        """A worker begins to collect. It gets no test before it has: what it finds may differ."""
        node.workerinfo = {**workerinfo, "id": node.gateway.id, "spec": node.gateway.spec}
        self.config.hook.pytest_testnodeready(node=node)
        if self.shuttingdown:
            node.shutdown()

    def worker_collectionfinish(self, node: Node, ids: Sequence[str]) -> None:
        """A worker has collected."""
        known = self._schedule.tests
        if self.shuttingdown or (known is not None and list(ids) != known):
            node.shutdown()
            if not self.shuttingdown:
                self._tell_difference(node, known or [], ids)
            return
        self._scheduler.add_node(node)
        super().worker_collectionfinish(node, ids)

    def _tell_difference(self, node: Node, known: Sequence[str], ids: Sequence[str]) -> None:
        other = next((each.gateway.id for each in self._scheduler.nodes), "the others")
        text = report_collection_diff(known, list(ids), other, node.gateway.id)
        report = pytest.CollectReport(nodeid=node.rented.name, outcome="failed", longrepr=text, result=[])
        self.config.hook.pytest_collectreport(report=report)

    def worker_runtest_protocol_complete(self, node: Node, item_index: int, duration: float) -> None:
        """A test is over: now its reports count."""
        self._places.fruitful(node.rented.name)
        self._pass_on(node)
        super().worker_runtest_protocol_complete(node, item_index, duration)

    def _pass_on(self, node: Node) -> None:
        for name, arguments_ in self._held.release(node):
            if name == "logstart":
                self._over.add(arguments_["nodeid"])
            getattr(super(), f"worker_{name}")(**arguments_)

    def worker_workerfinished(self, node: Node) -> None:
        """A worker has ended as it should."""
        self._pass_on(node)
        super().worker_workerfinished(node)

    def worker_internal_error(self, node: Node, formatted_error: str) -> None:
        """A worker has an internal error."""
        self._pass_on(node)
        super().worker_internal_error(node, formatted_error)

    def worker_errordown(self, node: Node, error: object | None) -> None:
        """A worker has ended as it should not: find out why. What it had not begun goes to others at once."""
        if error == "keyboard-interrupt":
            super().worker_errordown(node, error)
        elif node in self._active_nodes and node not in self._lost:
            self._lost[node] = self._schedule.remove(node)
            self._fleet.look(node.rented, node, error)

    def worker_looked(self, node: Node, error: object, ending: Ending) -> None:
        """It is known why a worker has ended."""
        if node not in self._lost:
            return
        if ending.excuses and node.rented in self._hosts:
            self.worker_hostlost(node.rented, ending)
            return
        test = self._lost.pop(node)
        if ending.excuses:
            self._active_nodes.discard(node)
            self._held.drop(node)
            self.config.hook.pytest_testnodedown(node=node, error=None)
            if test is not None and not self.shouldstop:
                self._lose(test, node, ending)
            self._schedule.awaits(len(self._active_nodes))
            return
        self._pass_on(node)
        if test is not None:
            self._over.add(test)
            self.handle_crashitem(test, node)
        super().worker_errordown(node, error)

    def _lose(self, test: str, node: Node, ending: Ending) -> None:
        """A test's run was lost: it runs once more, or is an error."""
        if self._runs.lose(test, ending):
            self.report_line(losses.runs_again(node.gateway.id, node.rented.name, test, ending))
            self._scheduler.mark_test_pending(test)
        else:
            endings = self._runs.endings(test)
            self._report(test, losses.lost_for_good(endings), machines=all(each.blames_machine for each in endings))

    def _report(self, test: str, text: str, *, machines: bool) -> None:
        """Report a test that has no result of its own as an error, or as ``--vast-on-infra-failure`` says."""
        self._over.add(test)
        skip = machines and self.config.stash[SETTINGS].on_infra_failure == "skip"
        path = test.partition("::")[0]
        report = pytest.TestReport(
            nodeid=test,
            location=(path, None, path),
            keywords={},
            outcome="skipped" if skip else "failed",
            longrepr=(path, 0, text) if skip else text,
            when="setup",
        )
        self.config.hook.pytest_runtest_logreport(report=report)
        self._handlefailures(report)

    def _clone_node(self, node: Node) -> None:
        """Start another worker in the place of one that has crashed."""
        self._start(node.rented, 1)

    def _start(self, rented: Rented, workers: int) -> None:
        self._coming[rented.name] += workers
        self._fleet.start(rented, workers)

    # ------------------------------------------------------------- the loop

    @property
    def _scheduler(self) -> Any:
        """Xdist's scheduler."""
        return self.sched

    @functools.cached_property
    def _schedule(self) -> Schedule:
        return Schedule(self.sched)

    @property
    def session_finished(self) -> bool:
        """Whether no worker has anything left to do. When the run stops, nobody waits for what is lost."""
        waits_for = self._active_nodes - set(self._lost) if self.shouldstop else self._active_nodes
        return bool(self.shuttingdown and not waits_for)

    def loop_once(self) -> None:
        """Process one event, of a worker or of a host."""
        self._supply()
        if self.session_finished:
            return
        try:
            name, given = self.queue.get(timeout=IDLE_S)
        except Empty:
            return
        node = given.get("node")
        if node is None or node in self._active_nodes:
            if node is not None:
                node.rented.heard = time.monotonic()
            if not self._held.hold(name, given):
                getattr(self, f"worker_{name}")(**given)
        self._supply()
        self._schedule.awaits(len(self._active_nodes))
        if self._scheduler.tests_finished and not self._schedule.waiting and not self._lost:
            self.triggershutdown()

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """End all workers."""
        if fleet := getattr(self, "_fleet", None):  # a usage error may have come before
            fleet.end()

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which tests ran twice."""
        super().pytest_terminal_summary(terminalreporter)
        for line in self._runs.summary():
            terminalreporter.write_line(f"vastgpu: {line}")
