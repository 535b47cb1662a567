"""The handle that a test gets: an instance whose server is ready."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Protocol
from typing import overload

from pytest_vastgpu.client.calls import InstanceCalls
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import gpus

if TYPE_CHECKING:
    from pytest_vastgpu.measuring.load import Load
    from pytest_vastgpu.measuring.measurement import Measurement


class VastInstance(InstanceCalls):
    """A rented instance on which the workload's server is ready.

    The fixtures ``vast_instance`` and ``vast_instance_factory`` make it. One from ``vast_module_instance`` or
    ``vast_session_instance`` leads to the instance of the test that runs, and so changes from test to test.
    """

    on_measured: Callable[[Measurement], None] | None = None
    """Takes what :meth:`measure` has found, for the run's report."""

    serves: Workload | None = None
    """What the server serves that it leads to, where a test has started that; None: what it was rented for."""

    def __repr__(self) -> str:
        return f"<VastInstance {self.id} on machine {self.offer.machine_id} at {self.endpoint}>"

    @property
    def id(self) -> int:
        """The instance's id on the market."""
        return self._lease.instance_id

    @property
    def endpoint(self) -> str:
        """URL of the server, without a slash at the end: ``http://127.0.0.1:40123``."""
        return self._lease.endpoint

    def address(self, port: int) -> str:
        __tracebackhide__ = True
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise ConfigurationError(f"address({port!r:.40}): that is no TCP port; give a whole number from 1 to 65535")
        return super().address(port)

    address.__doc__ = InstanceCalls.address.__doc__

    @property
    def headers(self) -> Mapping[str, str]:
        """HTTP headers that the server requires, such as the instance's own bearer token; may be empty."""
        return self._lease.headers

    @property
    def api_key(self) -> str:
        """The instance's own key, for clients that take one: ``OpenAI(base_url=…, api_key=vast_instance.api_key)``.

        It is random and never empty. A server that requires no key ignores it.
        """
        return self._lease.api_key

    @property
    def offer(self) -> Offer:
        """The rented offer: machine, GPU, location, and the price that is billed for it."""
        return self._lease.offer

    @property
    def gpu(self) -> str:
        """The rented GPUs, for people: ``RTX 4090``, ``2x H100 SXM`` or ``no GPU``."""
        return gpus(self.offer.num_gpus, self.offer.gpu_name)

    @property
    def cost_so_far(self) -> float:
        """USD spent on this instance until now, transfer included."""
        return self._leases.cost(self._lease.label)

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds that the instance spent in each state on its way to ready."""
        return self._lease.seconds

    @property
    def mark(self) -> Mark:
        """Where its server was when the test got it."""
        return self._lease.mark

    @property
    def restarted(self) -> str:
        """Why its server was started again, in a sentence; what it had in memory is lost. Empty if it was not."""
        return self._lease.restarted

    def serve(self, workload: Workload) -> Lease:
        __tracebackhide__ = True
        return self.leads_to(super().serve(workload), workload)

    serve.__doc__ = InstanceCalls.serve.__doc__

    def serve_beside(self, workload: Workload) -> Lease:
        __tracebackhide__ = True
        return self.leads_to(super().serve_beside(workload), workload)

    serve_beside.__doc__ = InstanceCalls.serve_beside.__doc__

    def leads_to(self, lease: Lease, workload: Workload) -> Lease:
        """Lead to this one of two servers that run at a time from now on, also in the test's report.

        :param lease: What :meth:`serve` or :meth:`serve_beside` has returned.
        :param workload: What was started then.
        """
        self._lease, self.serves = lease, workload
        return lease

    def measure(self, load: Load, seconds: float = 10.0, *, blames: bool = True) -> Measurement:
        """Measure the server under a load that is made on the instance itself. The run's report has the result, too.

        :param load: What is asked, and how fast: :func:`~pytest_vastgpu.completions` and its like.
        :param seconds: How long; the load's warm-up comes before.
        :param blames: Whether the machine's record keeps what has spoken against the host meanwhile.
        :raises MeasurementFailed: if there is no number that means something, with the reason.
        :raises ConfigurationError: for ``seconds`` that no measurement can have.
        """
        __tracebackhide__ = True
        from pytest_vastgpu.client.measure import measure  # few tests need it

        measured = measure(self.run, self._lease, load, seconds)
        if blames and measured.hardware_problem:
            self.report_hardware_problem(measured.hardware_problem)
        if self.on_measured is not None:
            self.on_measured(measured)
        return measured

    def close(self) -> None:
        """Give the instance back now. Only for an instance from ``vast_instance_factory``; idempotent."""
        self._leases.release(self._lease.label)

    def spent_by(self, test: str) -> float:
        """USD that a test has cost so far, by its node id: its share of the cost of all instances it has used."""
        return self._leases.spent(test)

    def properties(self) -> list[tuple[str, object]]:
        """The properties for a test report: instance, machine, price and times."""
        restarted = [("vast_server_restarted", self.restarted)] if self.restarted else []
        return [
            ("vast_instance", self.id),
            ("vast_machine", self.offer.machine_id),
            ("vast_gpu", self.gpu),
            ("vast_usd_per_hour", round(self.offer.price_usd_h, 4)),
            ("vast_attempts", self._lease.attempt),
            ("vast_ready_s", round(sum(self.seconds.values()) - self.seconds.get("ready", 0.0), 3)),
            *restarted,
        ]


class InstanceFactory(Protocol):
    """The value of the fixture ``vast_instance_factory``."""

    @overload
    def __call__(self, workload: Workload, /) -> VastInstance: ...

    @overload
    def __call__(self, first: Workload, second: Workload, /, *more: Workload) -> list[VastInstance]: ...
