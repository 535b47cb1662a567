"""The calls from a test process to the supervisor, and the values in them. Both sides derive their code from this."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Concatenate
from typing import ParamSpec
from typing import Protocol
from typing import TypeVar
from typing import cast

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting import alive
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.costs import InstanceCost
from pytest_vastgpu.settings import Settings

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Mark:
    """Where an instance's server was when a test got it."""

    start: int
    """The number of the server's start on this instance; 0 for the first."""
    log: int
    """Characters that it had printed."""
    unanswered: int
    """Requests that had got no answer."""
    at: float
    """Epoch seconds, on the supervisor's clock."""


SERVER_NOT_STOPPED, GPU_MEMORY_HELD = "server_not_stopped", "gpu_memory_held"
"""The reasons of verdicts for what a server leaves behind that is replaced: they say nothing of the next one."""


@dataclass(frozen=True)
class Fate:
    """What became of an instance, or of its server, while a test used it. It did not go on as it should."""

    what: str
    """What happened and when, in a sentence."""
    verdict: Verdict
    excuses: bool
    """Whether the test's failure says nothing about the test: the instance was lost, or the machine is at fault."""
    then: str
    """What the next test gets, in a sentence."""
    log: str = ""
    """What the server printed since the test got it."""
    artifacts: str = ""
    """Directory of the evidence; empty if there is none."""


@dataclass(frozen=True)
class Lease:
    """A test's right to use an instance, as plain values."""

    label: str
    """The instance's unique label."""
    instance_id: int
    offer: Offer
    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each state until it was ready."""
    mark: Mark = Mark(0, 0, 0, 0.0)
    restarted: str = ""
    """Why its server was started again, in a sentence: what that had in memory is lost. Empty if it was not."""
    api_key: str = field(default="", repr=False)
    """The instance's own random key."""
    port: int = 0
    """The server's port on the instance."""
    attempt: int = 1
    """Which of the attempts for its workload became ready: 1 for the first."""


@dataclass(frozen=True)
class Hook:
    """An implementation of one of this package's hooks."""

    name: str
    """For example ``pytest_vastgpu_outcome``."""
    origin: str
    """The file of the conftest module or plugin."""


@dataclass(frozen=True)
class Expected:
    """What a selected test will need."""

    workload: Workload | None
    """None if only the test's run can tell."""
    certain: bool = True
    """False if the test may be skipped: nothing is rented in advance for it."""
    runs: int = 1
    """How often the test runs: once, or once in each worker."""


@dataclass
class Collected:
    """What the selected tests need."""

    tests: dict[str, Expected] = field(default_factory=dict)
    """By node id: the tests that will use a shared instance."""
    problems: list[str] = field(default_factory=list)
    """Usage errors in markers, one line each."""
    hooks: list[Hook] = field(default_factory=list)
    """The implementations that this process has loaded."""


@dataclass(frozen=True)
class AdapterOffer:
    """An adapter that another process has; the adapter itself is not sent."""

    name: str
    default_image: str
    warmup_s: float
    origin: str
    """Where the adapter comes from, for messages."""


@dataclass(frozen=True)
class Opening:
    """The first message to a supervisor. Secrets are not in it; they follow in the same pipe."""

    secret: str = field(repr=False)
    """Each connection begins with this secret."""
    run: str
    """The run's id."""
    settings: Settings
    timeouts: Timeouts
    directory: str
    """The directory in which pytest was started: relative paths begin there."""
    workers: int
    """How many tests run at the same time."""
    in_each: bool
    """Whether every worker runs every test."""
    adapters: tuple[AdapterOffer, ...]
    hooks: tuple[Hook, ...]
    """Implementations in the process that starts the supervisor; only these are called."""
    project: str = ""
    """The root directory of its tests. A supervisor that outlives a run serves only later runs of the same project."""
    login: int = 0
    """Leader of the user's login session; 0 if not known. A supervisor does not outlive it."""

    def for_one_run(self) -> Opening:
        """The same for a supervisor that ends with the run."""
        return replace(self, settings=self.settings.but(reuse=0.0))


@dataclass(frozen=True)
class PipeRequest:
    """The first message on a connection whose bytes are the input and output of a command on an instance."""

    label: str
    """The instance's label."""
    command: str
    name: str = "the host"
    """What the user calls it."""


@dataclass(frozen=True)
class Supervisor:
    """What a process learns of the supervisor, the process that owns what is rented."""

    pid: int
    log: str
    """Path of the supervisor's log; empty if it has none yet."""


@dataclass(frozen=True)
class Kept:
    """An instance that was kept so that a person can look inside."""

    instance_id: int
    ssh: str
    """The command line that logs in."""
    price_usd_h: float
    until: float
    """Epoch seconds at which the instance destroys itself."""
    seconds: float
    """Seconds between the moment it was kept and that time."""

    @property
    def alive(self) -> Alive:
        """What is said of it."""
        return alive.kept(self.instance_id, self.price_usd_h, self.until, self.seconds, self.ssh)


@dataclass(frozen=True)
class Warm:
    """An instance that waits for the next run."""

    label: str
    instance_id: int
    workload: str
    """In words."""
    price_usd_h: float
    until: float
    """Epoch seconds at which it is given back if no run uses it."""
    seconds: float
    """Seconds until then."""
    age_s: float
    """Seconds since its create."""
    idle_s: float
    """Seconds since a run has used it."""

    @property
    def idle_usd(self) -> float:
        """What it has cost in that time; the budget of the run that left it pays for that."""
        return self.price_usd_h * self.idle_s / HOUR_S

    def told(self) -> str:
        """What a run that may use it needs to know."""
        return (
            f"instance {self.instance_id} ({self.workload}) is warm: {spoken(self.age_s)} old, "
            f"{self.price_usd_h:.3f} USD/h, idle for {spoken(self.idle_s)} ({self.idle_usd:.4f} USD)"
        )

    @property
    def alive(self) -> Alive:
        """What is said of it."""
        return alive.warm(self.instance_id, self.workload, self.price_usd_h, self.until, self.seconds)


@dataclass(frozen=True)
class Closing:
    """How far the end of a run is."""

    summary: Summary | None
    """None while something is still to be given back."""
    waits_for: list[str]
    """What is waited for, for people."""


@dataclass(frozen=True)
class Summary:
    """The result of a run."""

    books: list[InstanceCost]
    problems: list[Alive]
    """What could not be destroyed."""
    kept: list[Kept]
    cost_file: str
    warm: list[Warm] = field(default_factory=list)

    @property
    def alive(self) -> list[Alive]:
        """All that goes on costing money, the worst first."""
        return [*self.problems, *(each.alive for each in self.kept), *(each.alive for each in self.warm)]


def _call(method: Callable[Concatenate[InstanceCalls, _P], _R]) -> Callable[Concatenate[InstanceCalls, _P], _R]:
    """Turn a declared method into a call. The method that answers has the same name, and takes the label first."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def ask(self: InstanceCalls, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        __tracebackhide__ = True  # an error of a call is one of the line that calls
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()  # a call sends all of its arguments
        _, *arguments = given.args
        return cast(_R, getattr(self._leases, method.__name__)(self._lease.label, *arguments))

    return ask


class InstanceCalls:
    """The calls to an instance: the methods of a test's handle.

    They are declared only here. In the supervisor :class:`~pytest_vastgpu.supervisor.pool.access.InstanceAccess`
    answers them.
    """

    def __init__(self, leases: Leases, lease: Lease) -> None:
        self._leases = leases
        self._lease = lease

    @_call
    def run(self, command: str, timeout_s: float = 60.0, stdin: str = "") -> ProbeResult:
        """Run a shell command on the instance, as root in its home directory.

        The server's working directory, where the workload's files are, is ``~/.vastgpu/work``.

        :param timeout_s: Seconds after which the command is ended; its output up to then is in the result.
        :param stdin: What the command reads; no process list shows it.
        :returns: Exit code, output and, if the command did not run, the reason. A failing command does not raise.
        """
        raise NotImplementedError

    @_call
    def address(self, port: int) -> str:
        """Where a port of the instance is reached from here: ``127.0.0.1:40123``.

        For what listens on the instance's loopback beside the server's own port, such as gRPC or metrics:
        ``grpc.insecure_channel(vast_instance.address(8001))``. The way is a tunnel through SSH, also with
        ``--vast-expose``. It is opened when it is first asked for, shared by all tests that use the instance, survives
        a broken connection and another start of the server, and is closed when the instance is given back. Another
        instance has another address, so ask each time. The server's own port leads to the address of the endpoint.

        :param port: A TCP port of the instance, from 1 to 65535.
        :raises ConfigurationError: if that is no port.
        :raises VastGpuError: if nothing listens there, with where the server listens.
        """
        raise NotImplementedError

    @_call
    def check_gpus(self) -> GpuCheck:
        """Check the GPUs before something is measured: clocks, throttling, other processes, PCIe lanes, and, where
        PyTorch can run, the speed of memory and of a product of matrices. What speaks against it is kept in its record.

        It takes 2 s, with PyTorch 10 s. Ask nothing of the server meanwhile: a GPU that works is taken for shared.
        """
        raise NotImplementedError

    @_call
    def serve(self, workload: Workload) -> Lease:
        """Replace the server by that of another workload, or start it again; returns when it is ready.

        Only for an instance of the test's own, from ``vast_instance_factory``. The host and its disk stay, so the
        workload must need no other image, login or GPUs; files and setup command that differ are brought and run.

        :param workload: With whole paths of its files.
        :raises ConfigurationError: if the instance is shared, or cannot run the workload. It goes on serving.
        :raises BudgetSpent: if the budget has no room for the transfer of another model. It goes on serving.
        :raises ProvisioningFailed: if the server does not start, with the verdict. The instance is given back.
        """
        raise NotImplementedError

    @_call
    def serve_beside(self, workload: Workload) -> Lease:
        """Start the server of a second workload beside the present one; returns when it is ready.

        As :meth:`serve`, but the present server goes on. Both share the host, the GPUs, and one working directory with
        its files and setup command. Each lease leads to its own server, and the handle to this one from now on. What is
        said of a failed test, such as its log and what became of its server, is that of the server to which the handle
        leads. The next :meth:`serve` ends both.

        :param workload: With whole paths of its files, and another port.
        :raises ConfigurationError: as :meth:`serve`, and if both cannot run at a time. The present one goes on.
        :raises BudgetSpent: as :meth:`serve`.
        :raises ProvisioningFailed: if it does not start, with the verdict. The instance is given back.
        """
        raise NotImplementedError

    @_call
    def report_hardware_problem(self, why: str) -> None:
        """Report that a measurement has seen a hardware problem of the host, so that its record keeps it.

        :param why: In a sentence.
        """
        raise NotImplementedError

    @_call
    def logs(self) -> str:
        """The server's log so far (of a huge one, the end); where two run, that of the one which was started last."""
        raise NotImplementedError

    @_call
    def logs_since(self, mark: Mark) -> str:
        """What the server has printed since a test got it; the middle of a long text is left out.

        :param mark: Where its server was then.
        """
        raise NotImplementedError

    @_call
    def failed(self) -> None:
        """Report that a test which used the instance has failed: with ``--vast-keep=failed`` the instance is kept."""
        raise NotImplementedError

    @_call
    def keep_log(self, mark: Mark) -> str:
        """Keep all that the server has printed as evidence of a test that has failed; at the instance's first failed
        test also what the instance looks like then: GPUs, kernel messages, processes, disk, memory.

        :param mark: Where its server was when the test got it.
        :returns: Path of the log; empty where there is none, or it could not be written.
        """
        raise NotImplementedError

    @_call
    def fate(self, mark: Mark) -> Fate | None:
        """Check with SSH and the market what became of the instance and its server; None if both live, or where the
        test itself gave the instance back.

        What is lost or dead is given to no other test.

        :param mark: Where its server was when the test got it.
        """
        raise NotImplementedError


class Leases(Protocol):
    """The calls that every test process may make, besides the :class:`InstanceCalls` of each of its instances."""

    def collected(self, found: Collected) -> None:
        """Report what the selected tests need. All workers collect the same; the first report is kept."""
        ...

    def may_ask(self, tests: list[str]) -> None:
        """Report tests that collection has not seen to ask, and that may do so: nothing is rented ahead for them.

        What is rented is not given back as long as one of them may still need it.
        """
        ...

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        """Wait for a ready instance.

        :param test: The test's node id.
        :param exclusive: Whether to rent a fresh instance that no other test gets.
        :raises pytest_vastgpu.errors.VastGpuError: if no instance is available; the text is for people.
        """
        ...

    def acquire_alone(self, test: str, workload: Workload) -> Lease:
        """As :meth:`acquire` of a shared instance, which no other test uses until this one is done."""
        ...

    def acquire_several(self, test: str, workloads: list[Workload]) -> list[Lease]:
        """Rent fresh instances that no other test gets, at the same time, and wait until all are ready.

        If one of them fails, the others are given back.

        :raises pytest_vastgpu.errors.VastGpuError: the first failure; the text is for people.
        """
        ...

    def acquire_another(self, test: str, workload: Workload, other_than: list[int]) -> Lease:
        """As :meth:`acquire` of a fresh instance that no other test gets, on none of these machines."""
        ...

    def apart(self, one: Workload, other: Workload) -> str:
        """Why no instance can serve two workloads, one after the other, in a sentence; empty where one can."""
        ...

    def clash(self, one: Workload, other: Workload) -> str:
        """Why no instance can run the servers of two workloads at a time, and what would help, in a sentence; empty
        where nothing but what :meth:`apart` looks at may be in the way.
        """
        ...

    def tell(self, text: str) -> None:
        """Show a line among those of the instances."""
        ...

    def done(self, test: str) -> None:
        """Report that a test no longer uses its instances. It may be tried again, and then asks again."""
        ...

    def finished(self, test: str) -> None:
        """Report that a test is over, with all its tries: give back the instances that no test will need any more."""
        ...

    def release(self, label: str) -> None:
        """Give an exclusive instance back now."""
        ...

    def cost(self, label: str) -> float:
        """USD that an instance has cost so far."""
        ...

    def spent(self, test: str) -> float:
        """USD that a test has cost so far: its share of its instances' cost while it used them."""
        ...


class RunControl(Leases, Protocol):
    """The calls that only the process which started the supervisor may make."""

    def opened(self) -> None:
        """Wait until the supervisor is ready to rent.

        :raises pytest_vastgpu.errors.VastGpuError: one line; nothing was rented.
        """
        ...

    def crashed(self, test: str, over: bool) -> None:
        """Report that a test crashed its process, and has failed.

        :param over: Whether the test is over; False if it will be tried again.
        """
        ...

    def call_off(self) -> None:
        """Give no test an instance any more; give back the instances that are being started."""
        ...

    def keep_nothing(self) -> None:
        """Report that the run was interrupted: from now on no instance is kept."""
        ...

    def close(self, within_s: float) -> Closing:
        """Begin to give everything back, and wait that many seconds until it is gone. Idempotent: call it again and
        again until there is a summary.
        """
        ...


SLOW = frozenset(
    (
        *("collected", "opened", "acquire", "acquire_alone", "acquire_several", "acquire_another", "apart", "clash"),
        *("run", "address", "check_gpus", "serve", "serve_beside", "logs", "logs_since", "keep_log", "fate"),
    )
)
"""Calls whose answer takes as long as what they ask for, or as the supervisor's start. Others are answered at once."""
