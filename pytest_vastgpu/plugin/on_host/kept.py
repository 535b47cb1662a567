"""``--vast-keep=failed`` for hosts: one on which a test has failed is kept for a look inside."""

from __future__ import annotations

from contextlib import suppress

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import VastGpuError


class KeptHosts:
    """Plugin object that tells the supervisor on which hosts tests have failed."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has ended on a host."""
        rented = getattr(getattr(report, "node", None), "rented", None)
        if not report.failed or rented is None or rented.host.lease.label in self._told:
            return
        self._told.add(rented.host.lease.label)
        with suppress(VastGpuError, Cancelled):  # it is gone, or the run ends
            rented.calls.failed()
