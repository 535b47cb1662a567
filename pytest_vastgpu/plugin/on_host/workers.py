"""xdist's workers on hosts: what each is told, what it runs, and when what it reports counts."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from typing import Any

import execnet
import pytest
from xdist.dsession import DSession
from xdist.report import report_collection_diff
from xdist.workermanage import WorkerController

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.on_host import losses
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.fleet import Rented
from pytest_vastgpu.plugin.on_host.held_reports import HeldReports
from pytest_vastgpu.plugin.on_host.on_worker import EXIT
from pytest_vastgpu.plugin.on_host.places import Places
from pytest_vastgpu.plugin.on_host.schedules import OWN
from pytest_vastgpu.plugin.on_host.schedules import Schedule

_USUAL = frozenset({pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED})
"""How pytest ends in a worker that was told to end."""
COLLECT_S = 30.0
"""Others wait for a worker that collects for so long. Then they begin; it joins them once it has collected."""


class Node(WorkerController):  # type: ignore[misc] # xdist is not typed here
    """A worker on a host."""

    rented: Rented
    told_to_end = False
    """Whether it has been told to end. Xdist's own answer is the same where it has ended by itself."""

    def shutdown(self) -> None:
        """Tell it to end."""
        self.told_to_end = True
        super().shutdown()

    def process_from_remote(self, event: Any) -> None:
        """Take what the worker has sent.

        One that ends with a usage error says so first without its text. That comes with the end of its connection.
        """
        name, said = event if isinstance(event, tuple) else ("", {})
        if name == "workerfinished" and said["workeroutput"]["exitstatus"] == pytest.ExitCode.USAGE_ERROR:
            return
        super().process_from_remote(event)

    def sendcommand(self, name: str, **kwargs: object) -> None:
        """Send a command. One to a worker that is gone is lost with it: the event of its end is on its way."""
        with contextlib.suppress(OSError):
            super().sendcommand(name, **kwargs)


class HostWorkers(DSession):  # type: ignore[misc] # the same
    """xdist's session, as far as its workers are concerned."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._held = HeldReports()
        self._over: set[str] = set()
        """Tests that have been reported."""
        self._lost: dict[Node, str | None] = {}
        """Workers that have ended for a reason yet to be found out, each with the test that it ran."""
        self._unfit: set[str] = set()
        """What workers have said that could run no test."""
        self._clock = time.monotonic
        self._collects_since: dict[Node, float] = {}
        """When each worker was first seen to collect."""
        self._slow: set[Node] = set()
        """Those that still collect, and that nobody waits for."""

    def _node(self, gateway: execnet.Gateway, rented: Rented) -> Node:
        """Have a process on a host become a worker."""
        self.config.hook.pytest_xdist_newgateway(gateway=gateway)
        node = Node(self.nodemanager, gateway, self.config, self.queue.put)
        node.rented = rented
        gateway.node = node  # type: ignore[attr-defined] # as xdist has it
        try:
            node.setup()
        except (OSError, EOFError) as error:
            self.queue.put(("errordown", {"node": node, "error": error}))
        return node

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
        self._slow.discard(node)
        known = self._schedule.tests
        if self.shuttingdown or (known is not None and list(ids) != known):
            node.shutdown()
            if not self.shuttingdown:
                self._tell_difference(node, known or [], ids)
            return
        self._scheduler.add_node(node)
        super().worker_collectionfinish(node, ids)
        if self.terminal and self._schedule.begun:
            self.trdist._isatty = False  # what it says of later workers would overwrite the tests' progress

    def _begin_tests(self) -> None:
        """Have the tests begin once all workers have collected, but for those that take too long."""
        able = self._active_nodes - self._lost.keys()
        if self._scheduler.nodes:
            for node in sorted(able - set(self._scheduler.nodes) - self._slow, key=lambda each: str(each.gateway.id)):
                collects_s = self._clock() - self._collects_since.setdefault(node, self._clock())
                if collects_s >= COLLECT_S and not node.shutting_down:
                    self._slow.add(node)
                    line = f"vastgpu: {node.gateway.id} on {node.rented.name} still collects after {collects_s:.0f} s"
                    self.report_line(f"{line}: nobody waits for it any longer")
        self._schedule.awaits(len(self._active_nodes - self._slow))

    def _tell_difference(self, node: Node, known: Sequence[str], ids: Sequence[str]) -> None:
        other = next((each.gateway.id for each in self._scheduler.nodes), "the others")
        text = report_collection_diff(known, list(ids), other, node.gateway.id)
        report = pytest.CollectReport(nodeid=node.rented.name, outcome="failed", longrepr=text, result=[])
        self.config.hook.pytest_collectreport(report=report)

    def worker_runtest_protocol_complete(self, node: Node, item_index: int, duration: float) -> None:
        """A test is over: now its reports count."""
        self._pass_on(node)
        super().worker_runtest_protocol_complete(node, item_index, duration)

    def _pass_on(self, node: Node) -> None:
        for name, arguments_ in self._held.release(node):
            if name == "logstart":
                self._over.add(arguments_["nodeid"])
            getattr(super(), f"worker_{name}")(**arguments_)

    def worker_workerfinished(self, node: Node) -> None:
        """A worker has ended by itself: as it should, or because something in it has ended pytest."""
        if node in self._lost:
            return  # after an internal error, say
        self._pass_on(node)
        status, said = node.workeroutput["exitstatus"], node.workeroutput.get(EXIT, "")
        if status in _USUAL:
            super().worker_workerfinished(node)
        elif not self._held.has_begun(node) and (said or status != pytest.ExitCode.INTERRUPTED):
            self.worker_errordown(node, said or f"pytest ended with exit code {status}")
        else:
            node.workeroutput["exitstatus"] = int(pytest.ExitCode.INTERRUPTED)  # xdist knows no other
            super().worker_workerfinished(node)
            if said:
                self.shouldstop: bool | str = f"{node.gateway.id}: {said}"

    def _tell_unfit(self, node: Node, error: object) -> str:
        """Tell why a worker could run no test, a traceback once; returns it in one line."""
        places = Places(self.config.rootpath, node.rented.host.work / project.FOLDER)
        said, traceback = map(places.here, losses.before_any_test(error))
        said = sanitize.line(said)
        line = f"{node.rented.name} can run no test: {said}"
        if line not in self._unfit:
            self.report_line(f"vastgpu: {line}")
            if traceback and said not in self._unfit:
                self.report_line(sanitize.block(traceback))
        self._unfit |= {line, said}
        return f"{node.rented.name}: {said}"

    def worker_internal_error(self, node: Node, formatted_error: str) -> None:
        """A worker has an internal error."""
        self._pass_on(node)
        super().worker_internal_error(node, formatted_error)

    @property
    def _scheduler(self) -> Any:
        """Xdist's scheduler."""
        return self.sched

    @functools.cached_property
    def _schedule(self) -> Schedule:
        return Schedule(self.sched)
