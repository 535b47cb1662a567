"""Counts the tests that will still need each workload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.model import Workload


@dataclass
class _Need:
    """What one test will still need."""

    workloads: list[Workload]
    """Empty if only the test's run can tell."""
    certain: bool
    runs: int
    """Runs of the test that are not over."""
    asked: bool = False
    had: set[tuple[str, Workload]] = field(default_factory=set)
    """Which processes have had which workload in a run that is not over."""


class Demand:
    """The tests of a run that are not over, and the workloads of each. Not thread-safe: the pool's lock guards it.

    :param workers: How many of its tests run at a time.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.certain: Counter[Workload] = Counter()
        """Number of tests that are sure to ask for a workload and have not had it, in the order of collection."""
        self.pending: Counter[Workload] = Counter()
        """Number of tests that may ask for a workload, also again: a test is over when no further try can follow."""
        self.unknown = 0
        """Number of tests whose workload is not known yet."""
        self._needs: dict[str, _Need] = {}

    def expect(self, tests: Mapping[str, Expected]) -> None:
        """Add the selected tests."""
        for test, expected in tests.items():
            if test not in self._needs:
                workloads = [] if expected.workload is None else [expected.workload]
                self._add(test, _Need(workloads, expected.certain, expected.runs))

    def asks(self, process: str, test: str, workload: Workload) -> None:
        """A running test asks for a workload. What it asks for first replaces what was expected of it."""
        need = self._drop(test) or _Need([], certain=True, runs=1)
        if workload not in need.workloads:
            need.workloads = [*need.workloads, workload] if need.asked else [workload]
        need.certain = need.asked = True
        need.had.discard((process, workload))
        self._add(test, need)

    def answered(self, process: str, test: str, workload: Workload) -> None:
        """A test has got an instance or an error: nothing is rented in advance for it any more."""
        if need := self._drop(test):
            need.had.add((process, workload))
            self._add(test, need)

    def finished(self, test: str, process: str = "") -> None:
        """One run of a test is over.

        :param process: The process that ran it; empty if it is not known.
        """
        if need := self._drop(test):
            need.runs -= 1
            need.had = {(other, workload) for other, workload in need.had if other != process}
            self._add(test, need)

    def _add(self, test: str, need: _Need) -> None:
        if need.runs > 0:
            self._needs[test] = need
            self._count(need, 1)

    def _drop(self, test: str) -> _Need | None:
        need = self._needs.pop(test, None)
        if need is not None:
            self._count(need, -1)
        return need

    def _count(self, need: _Need, sign: int) -> None:
        if not need.workloads:
            self.unknown += sign * need.runs
        for workload in need.workloads:
            self.pending[workload] += sign * need.runs
            if need.certain:
                had = sum(each == workload for _, each in need.had)
                self.certain[workload] += sign * max(0, need.runs - had)


class Demands:
    """The demand of each run that there is. Not thread-safe: the pool's lock guards it."""

    def __init__(self) -> None:
        self._runs: dict[str, Demand] = {}

    def join(self, run: str, workers: int) -> None:
        """A run begins.

        :param workers: How many of its tests run at a time.
        """
        self._runs[run] = Demand(workers)

    def drop(self, run: str) -> None:
        """A run needs nothing any more."""
        self._runs.pop(run, None)

    def __contains__(self, run: str) -> bool:
        return run in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, run: str) -> Demand:
        """The demand of a run; what is told of a run that needs nothing any more has no effect."""
        return self._runs.get(run) or Demand()

    def that_need(self, workload: Workload) -> list[str]:
        """The runs whose tests may ask for a workload, in order."""
        return [run for run, demand in self._runs.items() if demand.pending[workload] > 0]

    @property
    def pending(self) -> Counter[Workload]:
        """See :attr:`Demand.pending`."""
        return sum((demand.pending for demand in self._runs.values()), Counter[Workload]())

    @property
    def certain(self) -> Counter[Workload]:
        """See :attr:`Demand.certain`, in the order of the runs and of their tests."""
        found = Counter[Workload]()
        for demand in self._runs.values():
            found.update(demand.certain)
        return found

    @property
    def unknown(self) -> int:
        """See :attr:`Demand.unknown`."""
        return sum(demand.unknown for demand in self._runs.values())

    @property
    def workers(self) -> int:
        """How many tests run at a time."""
        return max(1, sum(demand.workers for demand in self._runs.values()))
