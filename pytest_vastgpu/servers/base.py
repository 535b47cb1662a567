"""What an adapter is: everything this package must know about one kind of server.

An adapter has no state and does no I/O. It answers questions about a workload with values; what it is shown is an
:class:`Observation`, and the same observation always gets the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Protocol

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload


@dataclass(frozen=True)
class Observation:
    """What was seen of a warming server at one moment."""

    probes: Mapping[str, ProbeResult]
    """The newest result of each of the adapter's probes, by name."""
    log: str
    """What the server has printed since this start, from its first byte (the middle of a huge log is cut out)."""
    exit_code: int | None
    """The server's exit code, or None while its process is alive."""
    age_s: float
    """Seconds since the server was started."""
    still_s: float = 0.0
    """Seconds for which it has shown nothing new: no line unlike all before, numbers aside, and no new answer."""


@dataclass(frozen=True)
class Ready:
    """The server serves what the workload asks for."""


@dataclass(frozen=True)
class Warming:
    """Not ready, and nothing that must fail."""

    progress: Progress


@dataclass(frozen=True)
class Failed:
    """The start cannot succeed any more, and whose fault that is."""

    verdict: Verdict


Readiness = Ready | Warming | Failed


@dataclass(frozen=True)
class Launch:
    """How a server is started on an instance."""

    script: str
    """POSIX shell text that becomes the server (its last command should be ``exec``). Every value in it is quoted.

    The environment variable ``VASTGPU_HOST`` says on which address the server should listen: 127.0.0.1, or 0.0.0.0
    where its port is to be public.
    """
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment of the script. Goes over SSH in a file of mode 0600, never on a command line."""


class Adapter(Protocol):
    """Knows one kind of server: how to start it, how to see that it is ready, whose fault a failure is."""

    name: str
    """What a workload's ``adapter`` says."""
    default_image: str
    """Docker image for workloads that name none."""
    warmup_s: float
    """How long a start may take from launch to ready when nothing is known to move."""

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """How to start the server so that it listens on the address ``$VASTGPU_HOST``.

        :param api_key: Random secret of this instance; servers that can ask their clients for a key should ask for it.
        """
        ...

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        """HTTP headers that a client of the endpoint must send."""
        ...

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        """Commands to run on the instance, again and again while the server warms up.

        The secret is in the environment variable ``VASTGPU_API_KEY`` of every probe: keep it out of command lines.
        """
        ...

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """Whether the server is ready, on its way, or lost."""
        ...


_PARTS = ("launch", "headers", "probes", "assess")


def checked(adapter: object, origin: str) -> Adapter:
    """The same adapter.

    :param origin: Who brought it, for the message.
    :raises ConfigurationError: if it is not an adapter.
    """
    missing = [part for part in _PARTS if not callable(getattr(adapter, part, None))]
    missing += [name for name in ("name", "default_image") if not isinstance(getattr(adapter, name, None), str)]
    missing += [name for name in ("warmup_s",) if not isinstance(getattr(adapter, name, None), (int, float))]
    if missing:
        raise ConfigurationError(
            f"{origin} gave {kind_of(adapter)}, which is no adapter: it lacks {', '.join(missing)}"
        )
    return adapter  # type: ignore[return-value] # its parts were just looked at


def kind_of(value: object) -> str:
    """A value's class, for messages."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def by_name(found: Iterable[tuple[Adapter, str]]) -> dict[str, Adapter]:
    """Adapters by their names.

    :param found: Each with where it comes from.
    :raises ConfigurationError: for a name taken twice.
    """
    adapters: dict[str, Adapter] = {}
    origins: dict[str, str] = {}
    for adapter, origin in found:
        if adapter.name in adapters:
            raise ConfigurationError(
                f"two readiness adapters are called {adapter.name!r}: one of {origins[adapter.name]}, one of {origin}; "
                "rename or remove one"
            )
        adapters[adapter.name] = adapter
        origins[adapter.name] = origin
    return adapters
