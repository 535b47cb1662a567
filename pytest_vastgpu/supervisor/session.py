"""Answers the calls of one client connection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.calls import Closing
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.calls import InstanceCalls
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.rpc_server import Caller

if TYPE_CHECKING:
    from pytest_vastgpu.supervisor.pool.access import InstanceAccess
    from pytest_vastgpu.supervisor.pool.pool import InstancePool
    from pytest_vastgpu.supervisor.run import Run


class Control(Protocol):
    """The pytest run that makes the calls: what it answers itself."""

    id: str
    """The run's id."""

    def collected(self, found: Collected) -> None:
        """See :meth:`Leases.collected`."""
        ...

    def opens(self) -> None:
        """See :meth:`RunControl.opened`."""
        ...

    def run(self) -> Run:
        """Wait until the supervisor can rent.

        :raises VastGpuError: why it cannot.
        """
        ...

    def tell(self, text: str) -> None:
        """Show a line to this run alone."""
        ...

    def close(self, within_s: float) -> Closing:
        """See :meth:`RunControl.close`."""
        ...


class Session:
    """The calls of a test process. Implements :class:`~pytest_vastgpu.client.calls.RunControl`, see there."""

    def __init__(self, control: Control, caller: Caller) -> None:
        self._control = control
        self._caller = caller
        self._run = control.id

    @property
    def _pool(self) -> InstancePool:
        return self._control.run().pool

    @property
    def _access(self) -> InstanceAccess:
        return self._control.run().access

    def collected(self, found: Collected) -> None:
        """See :meth:`Leases.collected`."""
        self._control.collected(found)

    def may_ask(self, tests: list[str]) -> None:
        """See :meth:`Leases.may_ask`."""
        self._pool.may_ask(self._run, tests)

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        """See :meth:`Leases.acquire`."""
        label = self._pool.acquire(self._run, test, workload, exclusive, self._caller.process, self._caller.gone)
        return self._access.lease(label)

    def acquire_alone(self, test: str, workload: Workload) -> Lease:
        """See :meth:`Leases.acquire_alone`."""
        caller = self._caller
        return self._access.lease(
            self._pool.acquire(self._run, test, workload, False, caller.process, caller.gone, alone=True)
        )

    def acquire_several(self, test: str, workloads: list[Workload]) -> list[Lease]:
        """See :meth:`Leases.acquire_several`."""
        caller, failures = self._caller, list[BaseException]()

        def acquire(workload: Workload) -> str:
            try:
                gone = caller.gone
                return self._pool.acquire(
                    self._run, test, workload, True, caller.process, lambda: bool(failures) or gone()
                )
            except BaseException as failed:  # noqa: BLE001 - raised below
                failures.append(failed)
                return ""

        with ThreadPoolExecutor(max(1, len(workloads)), thread_name_prefix="vastgpu-several") as pool:
            labels = list(pool.map(acquire, workloads))
        if failures:
            for label in filter(None, labels):
                self._pool.release(label)
            raise failures[0]
        return [self._access.lease(label) for label in labels]

    def acquire_another(self, test: str, workload: Workload, other_than: list[int]) -> Lease:
        """See :meth:`Leases.acquire_another`."""
        caller, machines = self._caller, frozenset(other_than)
        label = self._pool.acquire(self._run, test, workload, True, caller.process, caller.gone, machines)
        return self._access.lease(label)

    def apart(self, one: Workload, other: Workload) -> str:
        """See :meth:`Leases.apart`."""
        return self._pool.apart(one, other)

    def clash(self, one: Workload, other: Workload) -> str:
        """See :meth:`Leases.clash`."""
        return self._pool.clash(one, other)

    def serve(self, label: str, workload: Workload) -> Lease:
        """See :meth:`InstanceCalls.serve`."""
        self._pool.serve(label, workload)
        return self._access.lease(label)

    def serve_beside(self, label: str, workload: Workload) -> Lease:
        """See :meth:`InstanceCalls.serve_beside`."""
        self._pool.serve(label, workload, beside=True)
        return self._access.lease(label)

    def tell(self, text: str) -> None:
        """See :meth:`Leases.tell`."""
        self._control.tell(text)

    def done(self, test: str) -> None:
        """See :meth:`Leases.done`."""
        self._pool.done(test, self._caller.process)

    def finished(self, test: str) -> None:
        """See :meth:`Leases.finished`."""
        self._pool.finished(self._run, test, self._caller.process)

    def release(self, label: str) -> None:
        """See :meth:`Leases.release`."""
        self._pool.release(label)

    def __getattr__(self, name: str) -> Any:
        """What is asked of an instance, and not answered here, :class:`InstanceAccess` answers."""
        if name not in rpc.calls_of(InstanceCalls):
            raise AttributeError(name)
        return getattr(self._access, name)

    def cost(self, label: str) -> float:
        """See :meth:`Leases.cost`."""
        return self._access.cost(label)

    def spent(self, test: str) -> float:
        """See :meth:`Leases.spent`."""
        return self._pool.books.spent(self._run, test)

    def fate(self, label: str, mark: Mark) -> Fate | None:
        """See :meth:`InstanceCalls.fate`."""
        return self._pool.losses.fate(label, mark)

    def opened(self) -> None:
        """See :meth:`RunControl.opened`."""
        self._control.opens()

    def crashed(self, test: str, over: bool) -> None:
        """See :meth:`RunControl.crashed`."""
        self._pool.crashed(self._run, test, over)

    def call_off(self) -> None:
        """See :meth:`RunControl.call_off`."""
        self._pool.call_off(self._run)

    def keep_nothing(self) -> None:
        """See :meth:`RunControl.keep_nothing`."""
        self._control.run().keeper.forbid()

    def close(self, within_s: float) -> Closing:
        """See :meth:`RunControl.close`."""
        return self._control.close(within_s)
