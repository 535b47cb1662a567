"""Which tests will still need which workload."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping

from pytest_vastgpu.model import Workload


class Demand:
    """Tests that have not finished, each with the workload it needs, where that is known before it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, Workload | None] = {}
        self._count: Counter[Workload | None] = Counter()

    def expect(self, tests: Mapping[str, Workload | None]) -> None:
        """Add the selected tests; None: it needs an instance and only its run will show which."""
        with self._lock:
            for test, workload in tests.items():
                if test not in self._pending:
                    self._set(test, workload)

    def needs(self, test: str, workload: Workload) -> None:
        """A running test turned out to need this."""
        with self._lock:
            self._drop(test)
            self._set(test, workload)

    def finished(self, test: str) -> None:
        """Strike a test off."""
        with self._lock:
            self._drop(test)

    def idle(self, workloads: Iterable[Workload]) -> list[Workload]:
        """Those that no test needs any more; none of them while some test's need is not known yet."""
        with self._lock:
            if self._count[None]:
                return []
            return [workload for workload in workloads if not self._count[workload]]

    def _set(self, test: str, workload: Workload | None) -> None:
        self._pending[test] = workload
        self._count[workload] += 1

    def _drop(self, test: str) -> None:
        if test in self._pending:
            self._count[self._pending.pop(test)] -= 1
