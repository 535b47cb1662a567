"""Which tests will still need which workload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.model import Workload


class Demand:
    """Tests that have not finished, each with what it needs. Not thread-safe: the broker's lock guards it."""

    def __init__(self) -> None:
        self.certain: Counter[Workload] = Counter()
        """Tests that are sure to ask for a workload, in the order in which they were collected."""
        self.pending: Counter[Workload] = Counter()
        """Tests that may ask for a workload."""
        self.unknown = 0
        """Tests whose need is not known yet."""
        self._tests: dict[str, Expected] = {}

    def expect(self, tests: Mapping[str, Expected]) -> None:
        """Add the selected tests."""
        for test, expected in tests.items():
            if test not in self._tests:
                self._set(test, expected)

    def needs(self, test: str, workload: Workload) -> None:
        """A running test turned out to need this."""
        runs = self._drop(test)
        self._set(test, Expected(workload, runs=max(1, runs)))

    def finished(self, test: str) -> None:
        """Strike one run of a test off."""
        if (expected := self._tests.get(test)) is not None:
            self._drop(test)
            if expected.runs > 1:
                self._set(test, replace(expected, runs=expected.runs - 1))

    def _set(self, test: str, expected: Expected) -> None:
        self._tests[test] = expected
        self._count(expected, expected.runs)

    def _drop(self, test: str) -> int:
        expected = self._tests.pop(test, None)
        if expected is None:
            return 0
        self._count(expected, -expected.runs)
        return expected.runs

    def _count(self, expected: Expected, runs: int) -> None:
        if expected.workload is None:
            self.unknown += runs
            return
        self.pending[expected.workload] += runs
        if expected.certain:
            self.certain[expected.workload] += runs
