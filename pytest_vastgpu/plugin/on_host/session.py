"""The run: has xdist run the tests on rented hosts.

xdist's session does all that concerns tests. What differs here is that workers come and go with their hosts, and what
the end of one means. That is decided in :mod:`.losses`; what takes time is done in :mod:`.fleet`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from queue import Empty
from typing import Any

import execnet
import pytest
from xdist.workermanage import NodeManager

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.controller import Controller
from pytest_vastgpu.plugin.on_host import losses
from pytest_vastgpu.plugin.on_host.about import Comparison
from pytest_vastgpu.plugin.on_host.fetch import Fetching
from pytest_vastgpu.plugin.on_host.fleet import END_WITHIN_S
from pytest_vastgpu.plugin.on_host.fleet import Fleet
from pytest_vastgpu.plugin.on_host.fleet import Rented
from pytest_vastgpu.plugin.on_host.held_reports import without_result
from pytest_vastgpu.plugin.on_host.hosts import SELECTED
from pytest_vastgpu.plugin.on_host.hosts import workers
from pytest_vastgpu.plugin.on_host.hosts import workloads
from pytest_vastgpu.plugin.on_host.losses import Ending
from pytest_vastgpu.plugin.on_host.losses import Kind
from pytest_vastgpu.plugin.on_host.supply import Situation
from pytest_vastgpu.plugin.on_host.supply import Supply
from pytest_vastgpu.plugin.on_host.worker_input import WorkerInputs
from pytest_vastgpu.plugin.on_host.workers import HostWorkers
from pytest_vastgpu.plugin.on_host.workers import Node
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.options import TIMEOUTS
from pytest_vastgpu.plugin.reporting.explained import Explained
from pytest_vastgpu.settings import HostSettings

IDLE_S = 0.5


class HostSession(HostWorkers):
    """xdist's session with workers on rented hosts. Registered in the place of xdist's own."""

    def __init__(self, config: pytest.Config, settings: HostSettings) -> None:
        super().__init__(config)
        self._settings = settings
        self._runs = losses.LostRuns()
        self._comparison = Comparison(config)
        self._places = Supply()
        self._hosts: dict[str, Rented] = {}
        """Those that are ready, by name."""
        self._coming: Counter[str] = Counter()
        """How many workers are on their way, by the name of their host."""
        self._why = ""
        """Why a host was last lost, or could not be had."""
        self._machines = False
        """Whether that was a machine's fault."""
        self._verdict: Explained | None = None
        """The same for reports; None: nothing is known of it."""
        self._given_up = False
        self._internal = ""
        """The last worker that had an internal error."""
        self._stray: dict[str, Rented] = {}
        """Hosts that live, and to which the connection is lost."""

    # ------------------------------------------------------------- hosts

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Rent the hosts. Their workers start as soon as each is ready."""
        self._session = session
        # Only now: with workers named earlier, xdist would make its own session.
        self.config.option.tx = ["popen"]
        self.nodemanager = self._manager = NodeManager(self.config, specs=[])
        wanted = workloads(self._settings, self.config)
        if not wanted:
            self.shuttingdown = True  # so that it is over at once
            return
        self._each = workers(self._settings, next(iter(wanted.values())))
        if self.config.option.maxworkerrestart is None:
            self._max_worker_restart = 4 * len(wanted) * self._each  # as with -n
        told = WorkerInputs(self.config, lambda node: node.rented.host, len(wanted) * self._each)
        self.config.pluginmanager.register(told, "vastgpu-workers")
        listener = Listener()
        self.config.add_cleanup(listener.remove)
        collected = Collected({name: Expected(workload) for name, workload in wanted.items()})
        self._controller = Controller(self.config, listener, collected, own_thread=True)
        self.config.pluginmanager.register(self._controller, "vastgpu-controller")
        announce, timeouts = self._controller.announce, self.config.stash.get(TIMEOUTS, DEFAULTS)
        self._fleet = Fleet(self._controller.calls, listener, wanted, self._each, self.queue.put, announce, timeouts)
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
        if rented.name not in self._hosts:
            self._fetching.ready(rented.host)
            self._comparison.tell(rented.name, rented.host.about, self.report_line)
        self._hosts[rented.name] = rented
        if self.shuttingdown:
            return  # nothing is left to do
        for gateway in gateways:
            node = self._node(gateway, rented)
            self._active_nodes.add(node)

    def worker_hostfailed(self, name: str, error: Exception) -> None:
        """No host could be had for a place."""
        self._arrive(name, self._each)
        self._why = losses.no_host(error)
        self._machines = isinstance(error, ProvisioningFailed) and error.machines_failed
        self._verdict = Explained.by_error(error) if isinstance(error, VastGpuError) else None
        self.report_line(f"vastgpu: {name}: {self._why}")

    def worker_hostlost(self, rented: Rented, ending: Ending) -> None:
        """A host is lost, or the connection to it."""
        if self._hosts.get(rented.name) is rented:
            del self._hosts[rented.name]
        elif rented.over.is_set():
            return
        self._coming.pop(rented.name, None)
        self._fleet.forget(rented)
        if ending.kind is Kind.HOST:
            self._fetching.lost(rented.name)
        self._why, self._machines = f"{rented.name} was lost: {ending.story}", ending.blames_machine
        self._verdict = Explained.by_verdict(ending.verdict)
        ran_a_test = False
        for node in [node for node in self._active_nodes if node.rented is rented]:
            if node not in self._lost:
                self._lost[node] = self._schedule.remove(node)
            ran_a_test = ran_a_test or self._lost[node] is not None
            self.worker_looked(node, None, ending)
        # A host that lives costs no new one, and a test that runs twice at most cannot end it for ever.
        self._places.lost(rented.name, counts=ending.kind is Kind.HOST or not ran_a_test)
        if ending.kind is Kind.CONNECTION:
            self._stray[rented.name] = rented

    def worker_broken(self, error: BaseException) -> None:
        """What has to do with hosts cannot go on."""
        if isinstance(error, OSError):
            pytest.exit(f"vastgpu: the run cannot go on: {error}", returncode=pytest.ExitCode.INTERNAL_ERROR)
        raise RuntimeError("vastgpu: a defect of pytest-vastgpu: please report it, with these lines") from error

    def _arrive(self, name: str, workers: int) -> None:
        self._coming[name] -= workers
        self._coming = +self._coming

    def _supply(self) -> None:
        """Have as many workers as what is left needs, and no more."""
        if self.shouldstop or self._summary_report or self._given_up:
            return
        schedule, living = self._schedule, [node for node in self._active_nodes if node not in self._lost]
        if schedule.waiting:
            self.shuttingdown = False
        plan = self._places.plan(
            Situation(
                begun=schedule.begun,
                waiting=schedule.waiting,
                movable=schedule.movable,
                doubtful={node.rented.name for node in self._lost},
                unproven=sum(schedule.has_tests(node) and not self._held.has_begun(node) for node in living),
                able=sum(not node.shutting_down for node in living),
                collecting=sum(not node.shutting_down and node not in self._scheduler.nodes for node in living),
                busy={name: sum(node.rented is each for node in living) for name, each in self._hosts.items()},
                coming=self._coming,
                each=self._each,
            )
        )
        for name, count in plan.start.items():
            self._start(self._hosts[name], count)
        self._rent(*plan.rent)
        for name in self._stray.keys() - self._coming.keys():
            self._fleet.leave(self._stray[name])
        self._stray.clear()
        for name in plan.give_back:
            self._fleet.give_back(self._hosts.pop(name))
        if plan.give_up:
            self._give_up()

    def _give_up(self) -> None:
        """No host is left: what has not run is an error of infrastructure, not of the tests."""
        if not self._why:
            raise RuntimeError("Unexpectedly no active workers available")  # as xdist says it
        if not self._schedule.begun or (self._unfit and not self._held.any_begun):
            text = f"vastgpu: no test could run: {losses.first_line(self._why)}"
            pytest.exit(text, returncode=pytest.ExitCode.INTERRUPTED)
        self._given_up = True
        self._report_rest(self._why, "no host is left", self._verdict, machines=self._machines)
        self.triggershutdown()

    def _report_rest(self, why: str, end: str, verdict: Explained | None = None, *, machines: bool) -> None:
        """Report what has not run: a run in which a selected test has no result is not a success."""
        told = ""
        for test in self._schedule.tests or ():
            if test not in self._over and not self.shouldstop:
                text = losses.never_ran(self._runs.of(test), why, told, end)
                self._report(test, text, verdict, machines=machines)
                told = told or test

    # ------------------------------------------------------------- losses

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
        if ending.excuses and self._hosts.get(node.rented.name) is node.rented:
            self.worker_hostlost(node.rented, ending)
            return
        test = self._lost.pop(node)
        if ending.excuses or not self._held.has_begun(node):
            self._active_nodes.discard(node)
            self._held.drop(node)
            self.config.hook.pytest_testnodedown(node=node, error=None)
            if not ending.excuses:
                self._unfit_worker(node, error)
            if test is not None and not self.shouldstop:
                if ending.excuses:
                    self._lose(test, node, ending)
                else:
                    self._scheduler.mark_test_pending(test)
            self._schedule.awaits(len(self._active_nodes))
            return
        self._pass_on(node)
        if test is not None:
            self._over.add(test)
            self.handle_crashitem(test, node)
        super().worker_errordown(node, error)

    def _unfit_worker(self, node: Node, error: object) -> None:
        """A worker could run no test: that is its host's fault, or its environment's. No other takes its place."""
        rented = node.rented
        self._why, self._machines, self._verdict = self._tell_unfit(node, error), False, None
        others = self._coming[rented.name] or any(each.rented is rented for each in self._active_nodes)
        if not others and self._hosts.get(rented.name) is rented:
            self._fleet.give_back(self._hosts.pop(rented.name))

    def _lose(self, test: str, node: Node, ending: Ending) -> None:
        """A test's run was lost: it runs once more, or is an error."""
        if self._runs.lose(test, ending):
            self.report_line(losses.runs_again(node.gateway.id, node.rented.name, test, ending))
            self._scheduler.mark_test_pending(test)
        else:
            endings = self._runs.of(test)
            verdict = Explained.by_verdict(ending.verdict)
            machines = all(each.blames_machine for each in endings)
            self._report(test, losses.lost_for_good(endings), verdict, machines=machines)

    def _report(self, test: str, text: str, verdict: Explained | None, *, machines: bool) -> None:
        """Report a test that has no result of its own."""
        self._over.add(test)
        self._runs.without_result(test)
        skip = machines and self.config.stash[SETTINGS].on_infra_failure == "skip"
        for report in without_result(test, text, verdict, skip=skip):
            self.config.hook.pytest_runtest_logreport(report=report)
            self._handlefailures(report)

    def _clone_node(self, node: Node) -> None:
        """Start another worker in the place of one that has crashed."""
        self._start(node.rented, 1)

    def _start(self, rented: Rented, workers: int) -> None:
        self._coming[rented.name] += workers
        self._fleet.start(rented, workers)

    def worker_internal_error(self, node: Node, formatted_error: str) -> None:
        """A worker has an internal error. What it had not begun goes to others; the run ends as with xdist at home."""
        if not self._held.has_begun(node) and not node.told_to_end:
            self.worker_errordown(node, formatted_error)
            return
        self._schedule.remove(node)
        self._internal = node.gateway.id
        super().worker_internal_error(node, formatted_error)

    # ------------------------------------------------------------- the loop

    @pytest.hookimpl
    def pytest_runtestloop(self) -> bool:
        """Run the tests."""
        super().pytest_runtestloop()
        inside = f"worker {self._internal!r} has had an internal error" if self._internal else ""
        why = inside or self._summary_report or self._why or "no worker has run it"
        self._report_rest(why, "the run is over", machines=False)
        here = self.config.stash.get(SELECTED, 0)
        if here and self._schedule.tests == [] and not self._session.testsfailed:
            text = f"vastgpu: no test was collected on the hosts, and {here} here: see what conftest files skip there"
            pytest.exit(text, returncode=pytest.ExitCode.INTERRUPTED)
        if self._internal:
            text = f"worker {self._internal!r} has had the internal error above: its test has no result"
            pytest.exit(text, returncode=pytest.ExitCode.INTERNAL_ERROR)
        return True

    @property
    def session_finished(self) -> bool:
        """Whether no worker has anything left to do. When the run stops, nobody waits for what is lost."""
        waits_for = self._active_nodes - self._slow
        if self.shouldstop:
            waits_for -= self._lost.keys()
        return bool(self.shuttingdown and not waits_for)

    def worker_runtest_protocol_complete(self, node: Node, item_index: int, duration: float) -> None:
        """A test is over."""
        self._places.fruitful(node.rented.name)
        super().worker_runtest_protocol_complete(node, item_index, duration)

    def loop_once(self) -> None:
        """Process one event, of a worker or of a host."""
        try:
            if not self._process(*self.queue.get(timeout=IDLE_S)):
                return  # as for most of them: what a worker says of a test that is not over yet
        except Empty:
            pass
        self._begin_tests()
        self._supply()
        if self._scheduler.tests_finished and not self._schedule.waiting and not self._lost:
            self.triggershutdown()

    def _process(self, name: str, given: dict[str, Any]) -> bool:
        """Process one event; returns whether anything may have to be done because of it."""
        node = given.get("node")
        counts = node is None or name == "looked" or (node in self._active_nodes and node not in self._lost)
        if not counts or self._held.hold(name, given):
            return False
        getattr(self, f"worker_{name}")(**given)
        return True

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Say what is waited for now: a test that sleeps, or computes, does not notice."""
        if self._active_nodes and excinfo.type is KeyboardInterrupt:  # and none of its kinds, as by -x
            self.report_line(f"vastgpu: interrupted: the workers have up to {END_WITHIN_S:.0f} s to end")

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End all workers. Another Ctrl-C ends only the waiting for those that hang, and what is fetched."""
        fleet = getattr(self, "_fleet", None)
        if fleet is None:  # a usage error has come before
            return
        try:
            fleet.end()
        except KeyboardInterrupt:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            self.report_line("vastgpu: interrupted: workers that hang are waited for no longer, and nothing is fetched")
            self._fetching.stop()

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which tests ran twice."""
        super().pytest_terminal_summary(terminalreporter)
        for line in self._runs.summary():
            terminalreporter.write_line(line)
