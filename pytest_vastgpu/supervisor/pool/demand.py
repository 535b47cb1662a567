"""Counts the tests that will still need each workload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.model import Workload


class Demand:
    """The tests that have not finished, and the workload of each. Not thread-safe: the pool's lock guards it."""

    def __init__(self) -> None:
        self.certain: Counter[Workload] = Counter()
        """Number of tests that are sure to ask for a workload, in the order of collection."""
        self.pending: Counter[Workload] = Counter()
        """Number of tests that may ask for a workload."""
        self.unknown = 0
        """Number of tests whose workload is not known yet."""
        self._tests: dict[str, Expected] = {}

    def expect(self, tests: Mapping[str, Expected]) -> None:
        """Add the selected tests."""
        for test, expected in tests.items():
            if test not in self._tests:
                self._set(test, expected)

    def needs(self, test: str, workload: Workload) -> None:
        """A running test needs this workload."""
        runs = self._drop(test)
        self._set(test, Expected(workload, runs=max(1, runs)))

    def finished(self, test: str) -> None:
        """One run of a test is over."""
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
