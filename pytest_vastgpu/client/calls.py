"""What a test process may ask of the supervisor, and the values that travel. Declared here once; both sides derive."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Concatenate
from typing import ParamSpec
from typing import Protocol
from typing import TypeVar
from typing import cast

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.costs import InstanceCost
from pytest_vastgpu.settings import Settings

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Lease:
    """A test's right to use an instance, as plain values."""

    label: str
    """Names the instance."""
    instance_id: int
    offer: Offer
    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each state until it was ready."""


@dataclass(frozen=True)
class Hook:
    """An implementation of one of our hooks."""

    name: str
    """``pytest_vastgpu_outcome`` or another."""
    origin: str
    """The file of the conftest module or plugin."""


@dataclass(frozen=True)
class Expected:
    """What a selected test will ask for."""

    workload: Workload | None
    """None: only its run will show which."""
    certain: bool = True
    """Whether it will run as far as can be said before; nothing is rented in advance for one that may be skipped."""
    runs: int = 1
    """How often it runs: once, or once in each worker."""


@dataclass
class Collected:
    """What the selected tests need."""

    tests: dict[str, Expected] = field(default_factory=dict)
    """By node id: those that will ask for a shared instance."""
    problems: list[str] = field(default_factory=list)
    """Usage errors in markers, one line each."""
    hooks: list[Hook] = field(default_factory=list)
    """The implementations that this process sees."""


@dataclass(frozen=True)
class AdapterOffer:
    """An adapter that another process has; it stays there."""

    name: str
    default_image: str
    warmup_s: float
    origin: str
    """Where it comes from, for messages."""


@dataclass(frozen=True)
class Opening:
    """What a supervisor is told when it starts. Secrets are not in it, they follow it through the same pipe."""

    secret: str = field(repr=False)
    """Each connection begins with it."""
    settings: Settings
    timeouts: Timeouts
    directory: str
    """Where pytest was started: relative paths begin there."""
    workers: int
    """How many tests run at a time."""
    in_each: bool
    """Whether every worker runs every test."""
    adapters: tuple[AdapterOffer, ...]
    hooks: tuple[Hook, ...]
    """Implementations in the process that starts it; only these are called."""


@dataclass(frozen=True)
class Supervisor:
    """The process that owns what is rented."""

    pid: int
    log: str
    """Path of its log; empty where it has none yet."""


@dataclass(frozen=True)
class Kept:
    """An instance that was left for a look inside."""

    instance_id: int
    ssh: str
    """The command line that logs in."""
    price_usd_h: float
    until: float
    """Epoch seconds at which it ends itself."""
    seconds: float
    """How long that was when it was left."""

    @property
    def ends(self) -> str:
        """When it ends itself, on our clock."""
        return time.strftime("%H:%M:%S on %d %b", time.localtime(self.until))

    def lines(self) -> list[str]:
        """What a person needs: until when, for how much, how to get in, how to end it."""
        usd = self.price_usd_h * self.seconds / HOUR_S
        return [
            f"KEPT: instance {self.instance_id} until {self.ends}, at {self.price_usd_h:.3f} USD/h ({usd:.4f} USD)",
            f"  look inside: {self.ssh}",
            f"  end it now:  vastgpu destroy {self.instance_id}",
        ]


@dataclass(frozen=True)
class Summary:
    """What a run has come to."""

    books: list[InstanceCost]
    problems: list[str]
    """What could not be destroyed, each with the command that does it."""
    kept: list[Kept]
    cost_file: str


def _call(method: Callable[Concatenate[InstanceCalls, _P], _R]) -> Callable[Concatenate[InstanceCalls, _P], _R]:
    """Make a declared method a call. What answers it has the same name, and takes the instance's label first."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def ask(self: InstanceCalls, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()  # calls travel with all of their arguments
        _, *arguments = given.args
        return cast(_R, getattr(self._leases, method.__name__)(self._lease.label, *arguments))

    return ask


class InstanceCalls:
    """What may be asked of an instance: the methods of a test's handle on it, each of which is a call.

    They are declared here only. In the supervisor :class:`~pytest_vastgpu.supervisor.pool.access.InstanceAccess`
    answers them.
    """

    def __init__(self, leases: Leases, lease: Lease) -> None:
        self._leases = leases
        self._lease = lease

    @_call
    def run(self, command: str, timeout_s: float = 60.0) -> ProbeResult:
        """Run a shell command on the instance, as root in its home directory.

        :param timeout_s: Seconds after which it is ended; what it printed until then is in the result.
        :returns: exit code, output and, where it did not run, why. A failing command does not raise.
        """
        raise NotImplementedError

    @_call
    def logs(self) -> str:
        """The server's log so far (of a huge one, the end)."""
        raise NotImplementedError

    @_call
    def failed(self) -> None:
        """Note that a test which used it has failed: with ``--vast-keep=failed`` it is left for a look inside."""
        raise NotImplementedError

    @_call
    def lost(self) -> Verdict | None:
        """Ask SSH and the market whether the instance went away; None where it is alive or that cannot be said.

        If it did, no other test gets it.
        """
        raise NotImplementedError


class Leases(Protocol):
    """What any test process may ask, besides the :class:`InstanceCalls` of each instance that it was given."""

    def collected(self, found: Collected) -> None:
        """What the selected tests need. All workers collect the same; what the first says is kept."""
        ...

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        """Wait for a ready instance.

        :param test: The test's node id.
        :param exclusive: A fresh one that no other test gets.
        :raises pytest_vastgpu.errors.VastGpuError: if there is none; the text is for people.
        """
        ...

    def done(self, test: str) -> None:
        """A test no longer uses what it was given."""
        ...

    def release(self, label: str) -> None:
        """Give an exclusive instance back now."""
        ...

    def cost(self, label: str) -> float:
        """USD that an instance has cost so far."""
        ...

    def spent(self, test: str) -> float:
        """USD that a test has cost so far: its part of the instances that it had in use, while it had them."""
        ...


class RunControl(Leases, Protocol):
    """What only the process that started the supervisor may ask."""

    def opened(self) -> None:
        """Wait until it is ready to rent.

        :raises pytest_vastgpu.errors.VastGpuError: one line; nothing was rented.
        """
        ...

    def finished(self, test: str) -> None:
        """A test is over: give back what no test will need any more."""
        ...

    def crashed(self, test: str) -> None:
        """A test was the end of its process: it has failed, and is over."""
        ...

    def call_off(self) -> None:
        """No test gets an instance any more; what is on its way is given back."""
        ...

    def keep_nothing(self) -> None:
        """The run was interrupted: no instance is left for a look inside from now on."""
        ...

    def close(self) -> Summary:
        """Give everything back, and wait until it is gone. Idempotent."""
        ...
