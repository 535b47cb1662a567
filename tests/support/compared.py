"""Hosts in memory for ``vast_compare``: a pytest run in this process rents them, and measures what a test has set."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.hostcheck.gpu_check import SLOWED
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.gpu import GpuSeen
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.seen import BUSY_SHARE
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from tests.support.factories import make_offer

TEST = """
import pytest
from pytest_vastgpu import command, http_load

A, B = command("baseline", gpus=0), command("candidate", gpus=0)
LOAD = http_load("/", warmup_s=1)
"""
"""Begins the tests of a run: two sides and a load."""
NARROW = GpuCheck(Verdict(FailureClass.UNKNOWN, "narrow_pcie", "GPU 0 has 4 of 16 PCIe lanes"))


def failed(reason: str, failure_class: FailureClass) -> ProvisioningFailed:
    """What a start of a server raises."""
    verdict = Verdict(failure_class, reason)
    return ProvisioningFailed(f"not ready: {reason}", [Attempt(1, "label", make_offer(), 1, verdict)])


def steady(_machine: int, _side: str, _window: int) -> float:
    """Every side takes 0.1 s."""
    return 0.1


def slower(by: float, *machines: int) -> Callable[[int, str, int], float]:
    """The candidate takes longer by this share, on these machines; none: on all."""

    def seconds(machine: int, side: str, _window: int) -> float:
        return 0.1 * (1 + by if side == "candidate" and (machine in machines or not machines) else 1)

    return seconds


@dataclass
class HostsInMemory:
    """Implements :class:`~pytest_vastgpu.client.calls.Leases`. Its windows vary by 1 %, the same in each test."""

    seconds: Callable[[int, str, int], float] = steady
    """What a request takes, by machine, side and the number of the window on that instance; it may raise."""
    start: Callable[[int, str, int], None] = lambda _machine, _side, _start: None
    """Called for each start of a server, with its number on that instance; it may raise."""
    machines: Sequence[int] = (1, 2, 3)
    errors: Callable[[str], int] = lambda _side: 0
    """Requests of a window that fail, of 100."""
    looks: dict[int, GpuCheck] = field(default_factory=dict)
    """What is seen of machines before anything is measured there."""
    missing: Callable[[int], Mapping[str, str]] = lambda _window: {}
    """Numbers that a window does not have, with the reason."""
    busy: Callable[[str, int], float] = lambda _side, _window: 0.0
    """What the load's driver uses of a CPU core, by side and window."""
    throttles: Callable[[int, int], bool] = lambda _machine, _window: False
    apart_: str = ""
    clash_: str = ""
    fates: dict[str, Fate] = field(default_factory=dict)
    asked: list[Workload] = field(default_factory=list)
    """The workloads that were rented for."""
    gpu: str = ""
    """The GPU of every machine; empty: none has any."""
    told: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    """What machines' records have got."""
    calls: list[str] = field(default_factory=list)
    """``rent 1``, ``candidate`` for the start of a server, ``beside`` before one that replaces none, ``window``,
    ``give back 1``."""
    measured: list[str] = field(default_factory=list)
    """The sides of the windows, in order."""
    _noise: random.Random = field(default_factory=lambda: random.Random(1))
    _serves: dict[int, str] = field(default_factory=dict)
    """What was started with a lease."""
    _given_back: set[str] = field(default_factory=set)
    """Those on which a server did not start."""
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def measure(self, _run: object, lease: Lease, load: Load, seconds: float) -> Measurement:
        """In place of what measures an instance."""
        side, machine = self._serves[lease.instance_id], lease.offer.machine_id
        self.calls.append("window")
        self.measured.append(side)
        took_s = self.seconds(machine, side, self._count(lease.label, "window")) * self._noise.lognormvariate(0, 0.01)
        wrong = self.errors(side)
        done = 100.0 - wrong
        figures = {
            "requests": Figure(done, "", done, done),
            "throughput": Figure(1 / took_s, "1/s", 0, 100, 1),
            "e2e_p50": Figure(took_s, "s", 0, 1, -1),
        }
        window = self._counts[lease.label, "window"]
        hot = self.throttles(machine, window)
        gpus = [GpuSeen(0, None, None, None, None, {SLOWED[0x40]: 0.5} if hot else {}, 50)]
        missing = {"e2e_p99": "it takes 381 requests, and there were 100", **self.missing(window)}
        figures = {name: figure for name, figure in figures.items() if name not in missing}
        busy = self.busy(side, window)
        return Measurement(
            load,
            seconds,
            figures,
            {"HTTP 500": wrong} if wrong else {},
            missing=missing,
            notes=(f"the load's driver used {busy:.0%} of a CPU core",) if busy else (),
            gpus=gpus,
            driver_busy=busy > BUSY_SHARE,
        )

    def check_gpus(self, label: str) -> GpuCheck:
        return self.looks.get(int(label.split()[0]), GpuCheck())

    def report_hardware_problem(self, label: str, why: str) -> None:
        self.blamed.append(why)

    def acquire_another(self, test: str, workload: Workload, other_than: list[int]) -> Lease:
        machine = next((each for each in self.machines if each not in other_than), None)
        if machine is None:
            raise NoOffers("no offers: all were excluded")
        self.calls.append(f"rent {machine}")
        self.asked.append(workload)
        return self._lease(f"{machine} no. {self._count(str(machine), 'rent')}")

    def serve(self, label: str, workload: Workload) -> Lease:
        machine = int(label.split()[0])
        self.calls.append(workload.command)
        if label in self._given_back:
            raise VastGpuError("the instance has been given back, and serves nothing any more")
        try:
            self.start(machine, workload.command, self._count(label, "start"))
        except Exception:
            self._given_back.add(label)  # as the pool does, whatever the error
            raise
        lease = self._lease(label)
        self._serves[lease.instance_id] = workload.command
        return lease

    def serve_beside(self, label: str, workload: Workload) -> Lease:
        self.calls.append("beside")
        return self.serve(label, workload)

    def clash(self, one: Workload, other: Workload) -> str:
        return self.clash_

    def apart(self, one: Workload, other: Workload) -> str:
        return self.apart_

    def tell(self, text: str) -> None:
        self.told.append(text)

    def release(self, label: str) -> None:
        self.calls.append(f"give back {label.split()[0]}")

    def fate(self, label: str, mark: Mark) -> Fate | None:
        return self.fates.get(label.split()[0])

    def done(self, test: str) -> None:
        self.calls.append("done")

    def finished(self, test: str) -> None: ...

    def failed(self, label: str) -> None: ...

    def logs_since(self, label: str, mark: Mark) -> str:
        return f"log of {label}"

    def keep_log(self, label: str, mark: Mark) -> str:
        return ""

    def cost(self, label: str) -> float:
        return 0.25

    def spent(self, test: str) -> float:
        return 0.25

    @property
    def rented(self) -> list[str]:
        """What was rented and given back, in order."""
        return [call for call in self.calls if " " in call]

    def _lease(self, label: str) -> Lease:
        machine = int(label.split()[0])
        offer = make_offer(machine_id=machine, num_gpus=int(bool(self.gpu)), gpu_name=self.gpu, price_usd_h=0.36)
        return Lease(label, 100 + self._count("", "lease"), offer, "http://127.0.0.1:9", {}, {"booting": 60.0})

    def _count(self, label: str, what: str) -> int:
        self._counts[label, what] = self._counts.get((label, what), 0) + 1
        return self._counts[label, what]
