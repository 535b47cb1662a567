"""Handles that outlive a test: each leads to the instance of the test that runs.

A fixture of a class, a module or the whole session may keep such a handle. The lease behind it is still taken and given
back by each test, so that demand, costs and reports are counted by test, and a lost instance is replaced for the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import VastGpuError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vastgpu.client.calls import Lease
    from pytest_vastgpu.client.calls import Leases
    from pytest_vastgpu.measuring.measurement import Measurement
    from pytest_vastgpu.model import Workload

WIDE = frozenset({"vast_module_instance", "vast_session_instance"})
"""The fixtures that give such a handle."""


def lead_to_own(item: pytest.Item) -> None:
    """Have a test that uses such a handle, itself or through a fixture, take an instance of its own first."""
    names: list[str] = getattr(item, "fixturenames", [])
    if "vast_instance" not in names and not WIDE.isdisjoint(names):
        names.insert(0, "vast_instance")


class Running:
    """Plugin object: the test that runs, and the instance that was last taken."""

    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        """The test whose setup or call is under way."""
        self._taken_by: pytest.Item | None = None
        self.last: VastInstance | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A test begins, perhaps once more."""
        self.item, self._taken_by = item, None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """A test is over, and takes nothing any more."""
        self.item = None

    def takes(self, item: pytest.Item, instance: VastInstance) -> None:
        """A test has taken a shared instance."""
        self.item = self._taken_by = item
        self.last = instance

    def instance(self) -> VastInstance:
        """The instance of the test that runs, which takes one now if it has none; between tests the last one.

        :raises VastGpuError: if no test has taken an instance.
        """
        if self.item is not None and self._taken_by is not self.item:
            # Not public, but the only way for a test that has not named the fixture.
            found: VastInstance = self.item._request.getfixturevalue("vast_instance")  # type: ignore[attr-defined] # above
            return found
        if self.last is None:
            raise VastGpuError("no test has used the instance yet: a handle leads to that of the test that runs")
        return self.last


class InstanceOfRunningTest(VastInstance):
    """A handle that leads to the instance of the test that runs."""

    def __init__(self, leases: Leases, running: Running) -> None:
        self._leases = leases
        self._running = running

    @property
    def _lease(self) -> Lease:  # type: ignore[override] # read only: it follows the test
        return self._running.instance()._lease

    @property
    def on_measured(self) -> Callable[[Measurement], None] | None:  # type: ignore[override] # as above
        return self._running.instance().on_measured

    def leads_to(self, lease: Lease, workload: Workload) -> Lease:
        """Not to be had: see :meth:`serve`, which the supervisor refuses for a shared instance."""
        __tracebackhide__ = True
        raise ConfigurationError(
            "leads_to() is for an instance of the test's own, and this one is shared with other tests: rent one with "
            "vast_instance_factory"
        )

    def __repr__(self) -> str:
        return f"<VastInstance of the running test; the last one was {self._running.last!r}>"
