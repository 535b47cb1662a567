"""A run on hosts without any: the real session and the real schedulers, and workers and hosts that are values.

What happens next, among all that may happen next, is chosen by dice. So thousands of orders of events, with losses at
any moment, are tried in seconds, and each can be repeated by its seed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.plugin.on_host.losses import Ending
from pytest_vastgpu.plugin.on_host.losses import Kind
from pytest_vastgpu.plugin.on_host.session import HostSession
from pytest_vastgpu.plugin.options import SETTINGS

LOST = Ending(
    Kind.HOST,
    "runtime_lost: instance_lost",
    "no SSH",
    verdict=Verdict(FailureClass.RUNTIME_LOST, "instance_lost", "no SSH"),
)
BROKEN = Ending(
    Kind.CONNECTION,
    "the connection broke, the host lives",
    verdict=Verdict(FailureClass.RUNTIME_LOST, "connection_lost", "the connection broke"),
)
CRASHED = Ending(Kind.WORKER)


class Place:
    """A host that is ready: what :class:`~pytest_vastgpu.plugin.on_host.fleet.Rented` is to a session."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = SimpleNamespace(about=None, work=PurePosixPath(f"/{name[-1]}"))
        self.over = threading.Event()
        self.ending: Ending | None = None
        self.workers: list[Worker] = []


class Worker:
    """xdist's controller of a worker, and the worker: it runs a test once it knows the next one, or that none comes."""

    def __init__(self, world: World, rented: Place, name: str) -> None:
        self.gateway = SimpleNamespace(id=name, spec=SimpleNamespace(id=name))
        self.rented = rented
        self.workeroutput = {"exitstatus": 0, "shouldfail": False, "shouldstop": False}
        self.shutting_down = self.told_to_end = False
        self.ended = False
        self._world = world
        self._queue: list[int | None] = []
        self._said = 0
        self._running: list[tuple[str, dict[str, Any]]] = []

    def __repr__(self) -> str:
        return str(self.gateway.id)

    def __hash__(self) -> int:
        return int(self.gateway.id[2:])  # sets of them have one order in every run

    def send_runtest_some(self, indices: list[int]) -> None:
        self._queue += indices

    def send_steal(self, indices: list[int]) -> None:
        there = set(indices) <= set(self._queue[1:])
        if there:
            self._queue = [each for each in self._queue if each not in indices]
        self._says("unscheduled", indices=list(indices) if there else [])

    def shutdown(self) -> None:
        self.shutting_down = self.told_to_end = True
        self._queue.append(None)

    def _says(self, name: str, **given: object) -> None:
        if not self.ended:
            self._world.session.queue.put((name, {"node": self, **given}))

    @property
    def can_go_on(self) -> bool:
        return not self.ended and (
            self._said < 2 or bool(self._running) or self._queue[:1] == [None] or len(self._queue) > 1
        )

    @property
    def runs_a_test(self) -> bool:
        return bool(self._running)

    def goes_on(self) -> None:
        """Do the next thing."""
        self._said += 1
        if self._said == 1:
            self._says("workerready", workerinfo={"version": "3", "executable": ""})
        elif self._said == 2 and self._is_unfit and not self._world.unfit_collects:
            self._cannot_run()
        elif self._said == 2:
            self._says("collectionfinish", ids=list(self._world.tests))
        elif self._is_unfit:
            self._cannot_run()
        elif self._running:
            name, given = self._running.pop(0)
            calls = name == "testreport" and given["rep"].when == "call"
            if calls and (ending := self._world.deadly(given["rep"].nodeid)):
                self._world.loses(self, ending)
            else:
                self._says(name, **given)
        elif self._queue[0] is None:
            self._says("workerfinished")
            self.ended = True
        else:
            self._running = self._protocol(self._queue.pop(0) or 0)

    @property
    def _is_unfit(self) -> bool:
        return self.rented.name in self._world.unfit

    def _cannot_run(self) -> None:
        how = self._world.unfit[self.rented.name]
        if isinstance(how, dict):
            self.exits(how)
        else:
            self._says("errordown", error=how)
            self.ended = self.shutting_down = True

    def exits(self, output: dict[str, Any]) -> None:
        """Something in it has ended pytest."""
        self.workeroutput |= output
        self._says("workerfinished")
        self.ended = self.shutting_down = True

    def _protocol(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        test = self._world.tests[number]
        reports = [
            ("testreport", {"rep": pytest.TestReport(test, ("t.py", 0, test), {}, "passed", None, when)})
            for when in ("setup", "call", "teardown")
        ]
        about = {"nodeid": test, "location": ("t.py", 0, test)}
        over = ("runtest_protocol_complete", {"item_index": number, "duration": 0.1})
        return [("logstart", about), *reports, ("logfinish", about), over]

    def dies(self) -> None:
        if not self.ended:
            self._says("errordown", error="Not properly terminated")
            self.ended = self.shutting_down = True


class World:
    """All that is outside of a session, in the place of its :class:`~pytest_vastgpu.plugin.on_host.fleet.Fleet`.

    :param dist: As with ``--dist``.
    :param rents: Whether renting a host succeeds, asked each time with the number of the attempt.
    """

    def __init__(
        self,
        config: pytest.Config,
        *,
        tests: int,
        hosts: int,
        each: int,
        seed: int = 0,
        dist: str = "worksteal",
        rents: Callable[[int], bool] = lambda _: True,
    ) -> None:
        config.option.dist, config.option.tx, config.option.verbose = dist, ["popen"], -1
        settings: Any = SimpleNamespace(on_infra_failure="error")
        config.stash[SETTINGS] = settings
        self.tests = [f"t_{number % 3}.py::test_{number}" for number in range(tests)]
        self.dice = random.Random(seed)
        self.reports: list[pytest.TestReport] = []
        self.collect_reports: list[pytest.CollectReport] = []
        config.pluginmanager.register(self)
        self.todo: list[Callable[[], None]] = []
        """What takes time, and is under way."""
        self.rented: list[str] = []
        """Every host that was asked for, in order."""
        self.given_back: list[str] = []
        self.workers: list[Worker] = []
        self.deadly: Callable[[str], Ending | None] = lambda _: None
        """What a test does to where it runs."""
        self.unfit: dict[str, Any] = {}
        """Hosts whose workers can run no test: the error of each, or what it says in the end."""
        self.unfit_collects = False
        """Whether they see that only once they have collected."""
        self._each = each
        self._rents = rents
        self.session = HostSession(config, settings)
        session: Any = self.session
        session._fleet, session._each, session._session = self, each, SimpleNamespace(testscollected=0, testsfailed=0)
        session._max_worker_restart = 4 * each * hosts
        session._node = self._worker
        nothing = SimpleNamespace(ready=lambda _: None, lost=lambda _: None, tell=lambda *_: None)
        session._fetching = session._comparison = nothing
        session.shouldstop = False
        session.sched = session.pytest_xdist_make_scheduler(config, session.log)
        session._rent(*(f"host {number}" for number in range(1, hosts + 1)))

    # ------------------------------------------------------------- hooks

    def pytest_xdist_make_scheduler(self) -> object:
        return self.session.sched

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.collect_reports.append(report)

    @property
    def results(self) -> dict[str, list[str]]:
        """The outcomes of each test: of its call, or of what stands in its place."""
        found: dict[str, list[str]] = {}
        for report in self.reports:
            if report.when not in ("setup", "teardown") or not report.passed:
                when: str = report.when
                name = "error" if when == "setup" else "crash" if when == "???" else report.outcome
                found.setdefault(report.nodeid, []).append(name)
        return found

    # ------------------------------------------------------------- the fleet

    def rent(self, name: str) -> None:
        self.rented.append(name)
        number = len(self.rented)
        error = VastGpuError("no offers: nothing is left on the market")

        def comes() -> None:
            if self._rents(number):
                self._start(Place(name), self._each)
            else:
                self.session.queue.put(("hostfailed", {"name": name, "error": error}))

        self.todo.append(comes)

    def start(self, rented: Place, workers: int) -> None:
        self.todo.append(lambda: self._start(rented, workers))

    def _start(self, rented: Place, workers: int) -> None:
        if rented.ending is not None:
            self.session.queue.put(("hostlost", {"rented": rented, "ending": rented.ending}))
        else:
            self.session.queue.put(("hostready", {"rented": rented, "gateways": [None] * workers}))

    def look(self, rented: Place, node: Worker, error: object) -> None:
        def sees() -> None:
            ending = rented.ending or CRASHED
            self.session.queue.put(("looked", {"node": node, "error": error, "ending": ending}))

        self.todo.append(sees)

    def forget(self, rented: Place) -> None:
        rented.over.set()
        for worker in rented.workers:
            worker.dies()

    def give_back(self, rented: Place) -> None:
        rented.over.set()
        self.given_back.append(rented.name)

    def leave(self, rented: Place) -> None:
        self.given_back.append(rented.name)

    def _worker(self, _: object, rented: Place) -> Worker:
        worker = Worker(self, rented, f"gw{len(self.workers)}")
        rented.workers.append(worker)
        self.workers.append(worker)
        return worker

    # ------------------------------------------------------------- what happens

    def loses(self, worker: Worker, ending: Ending) -> None:
        """Something befalls a worker, with its host or alone."""
        if not ending.excuses:
            worker.dies()
            return
        worker.rented.ending = ending
        for other in worker.rented.workers:
            other.dies()

    def fails_inside(self, worker: Worker) -> None:
        """A worker has an internal error."""
        worker.ended = True
        self.session.queue.put(("internal_error", {"node": worker, "formatted_error": "boom"}))

    def whole(self) -> None:
        """Go through the session's own loop, until the run is over."""
        session: Any = self.session
        goes_on = session.loop_once

        def step() -> None:
            session.loop_once = goes_on
            self.happens()
            session.loop_once = step

        session.loop_once = step
        session.pytest_runtestloop()

    @property
    def living(self) -> list[Worker]:
        """The workers that have not ended."""
        return [worker for worker in self.workers if not worker.ended]

    def happens(self) -> None:
        """One of all that may happen next."""
        able: list[Callable[[], None]] = [worker.goes_on for worker in self.workers if worker.can_go_on]
        if self.todo:
            able.append(lambda: self.todo.pop(self.dice.randrange(len(self.todo)))())
        if not self.session.queue.empty():
            able.append(self.session.loop_once)
        if not able:
            self.session._supply()
            assert self.todo or self.session.session_finished, f"it hangs: {self.results}"
            return
        self.dice.choice(able)()

    def goes_on(self, until: Callable[[], bool] = lambda: False) -> None:
        """Go on until the run is over, or something is so."""
        self.session._supply()
        while not self.session.session_finished and not until():
            self.happens()
            if self.session.shouldstop:
                self.session.triggershutdown()
