"""The operations of a test on its instance: run commands, read the log, ask for the cost."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.client.calls import PipeRequest
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.hostcheck import gpu_check
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.standing_still import listeners
from pytest_vastgpu.servers.system_probes import LISTENERS
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.supervisor.pool import pipes
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.server import job


class InstanceAccess:
    """Operates on the instances of a registry, by their labels.

    :param record: Keeps in a machine's record what speaks against it.
    """

    def __init__(
        self, registry: RentalRegistry, record: Callable[[Attempt, Workload], None] = lambda _attempt, _workload: None
    ) -> None:
        self._registry = registry
        self._record = record

    def lease(self, label: str) -> Lease:
        """The lease of an instance: everything that a test needs in order to use it."""
        rental = self._registry[label]
        attempt = rental.attempt()
        offer = replace(rental.offer, price_usd_h=rental.cost.usd_h)
        return Lease(
            rental.label,
            rental.instance_id,
            offer,
            rental.endpoint,
            dict(rental.headers),
            attempt.seconds,
            rental.mark(),
            rental.restarted,
            rental.api_key,
            rental.workload.port,
            attempt.number,
        )

    def run(self, label: str, command: str, timeout_s: float, stdin: str = "") -> ProbeResult:
        """See :meth:`Leases.run`."""
        rental = self._registry[label]
        if rental.connection is None or rental.state is not State.READY:
            return _no_answer(f"instance {rental.instance_id} is {rental.state.value}")
        rental.touched()
        try:
            return rental.connection.run(f"{job.IN_IMAGE_ENV}{command}", timeout_s, stdin=stdin.encode())
        except ConnectFailed as failed:
            return _no_answer(str(failed))
        except ValueError as error:
            raise ConfigurationError(f"{error}: {command!r:.200}") from error

    def check_gpus(self, label: str) -> GpuCheck:
        """See :meth:`Leases.check_gpus`."""
        rental = self._registry[label]
        if not rental.workload.gpus:
            return gpu_check.judge(rental.offer, rental.workload, "")
        seen = self.run(label, gpu_check.SCRIPT, gpu_check.TIMEOUT_S)
        if not seen.ok:
            return GpuCheck(notes=(f"the host was not looked at: {seen.stderr.strip() or seen.failure.value}",))
        found = gpu_check.judge(rental.offer, rental.workload, seen.stdout)
        if found.verdict is not None:
            self._record_problem(rental, found.verdict)
        return found

    def report_hardware_problem(self, label: str, why: str) -> None:
        """See :meth:`Leases.report_hardware_problem`."""
        self._record_problem(self._registry[label], gpu_check.problem("gpu_throttled", why))

    def _record_problem(self, rental: Rental, verdict: Verdict) -> None:
        """Keep in the machine's record what speaks against it: once for an instance, whatever is said of it again."""
        rental.tell(f"hardware problem: {verdict.evidence}")
        self._record(rental.attempt(verdict), rental.workload)

    def converse(
        self, asked: PipeRequest, local: socket.socket, tell: Callable[[str], None], show: Callable[[str], None]
    ) -> None:
        """Run a command on an instance that runs tests: see :func:`~pytest_vastgpu.supervisor.pool.pipes.converse`."""
        rental = self._registry.find(asked.label)
        if rental is None:
            raise VastGpuError(f"no instance has the label {asked.label!r}")
        pipes.converse(rental, asked, local, tell, show)

    def address(self, label: str, port: int) -> str:
        """See :meth:`Leases.address`."""
        rental = self._registry[label]
        if rental.state is not State.READY:
            raise VastGpuError(f"port {port} leads nowhere: instance {rental.instance_id} is {rental.state.value}")
        if port == rental.workload.port:
            return urlsplit(rental.endpoint).netloc
        forward = rental.ports.open(port)
        if not forward.answers():
            raise VastGpuError(_no_way(rental, port))
        return urlsplit(forward.url).netloc

    def logs(self, label: str) -> str:
        """See :meth:`Leases.logs`."""
        return self._registry[label].read_log()

    def logs_since(self, label: str, mark: Mark) -> str:
        """See :meth:`InstanceCalls.logs_since`."""
        return self._registry[label].log_since(mark)

    def keep_log(self, label: str, mark: Mark) -> str:
        """See :meth:`InstanceCalls.keep_log`."""
        return self._registry[label].keep_log(mark)

    def cost(self, label: str) -> float:
        """See :meth:`Leases.cost`."""
        return self._registry[label].cost.usd

    def failed(self, label: str) -> None:
        """See :meth:`Leases.failed`."""
        self._registry[label].fails()


def _no_way(rental: Rental, port: int) -> str:
    """Why nothing answers at a port of an instance, in a sentence."""
    try:
        seen = rental.connected.run(LISTENERS.command, LISTENERS.timeout_s, env={"VASTGPU_API_KEY": rental.api_key})
    except ConnectFailed as failed:
        return f"port {port} of instance {rental.instance_id} cannot be reached: {failed}"
    found = sorted(listeners(seen.stdout), key=lambda each: each.port)
    there = ", ".join(map(str, found)) or "nothing"
    return (
        f"nothing listens on 127.0.0.1:{port} of instance {rental.instance_id}; its server listens on {there}: "
        "ask for another port, or once something listens there"
    )


def _no_answer(text: str) -> ProbeResult:
    return ProbeResult("run", ProbeFailure.TRANSPORT, None, "", text, 0.0)
