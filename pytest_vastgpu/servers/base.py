"""The declaration of an adapter: everything this package must know about one kind of server.

An adapter has no state and does no I/O. It answers questions about a workload with values. The state of a server
reaches it as an :class:`Observation`, and equal observations always get equal answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Protocol

from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload


@dataclass(frozen=True)
class Observation:
    """The state of a starting server at one moment."""

    probes: Mapping[str, ProbeResult]
    """The newest result of each of the adapter's probes, by name."""
    log: str
    """What the server has printed since this start, from its first byte (the middle of a huge log is cut out)."""
    exit_code: int | None
    """The server's exit code, or None while its process is alive."""
    age_s: float
    """Seconds since the server was started."""
    still_s: float = 0.0
    """Seconds since the server showed something new: a line unlike all before, numbers and ids aside, or an answer."""


@dataclass(frozen=True)
class Ready:
    """The server serves what the workload requires."""


@dataclass(frozen=True)
class Warming:
    """The server is not ready, and shows no failure."""

    progress: Progress


@dataclass(frozen=True)
class Failed:
    """The start can no longer succeed; the verdict says whose fault that is."""

    verdict: Verdict


Readiness = Ready | Warming | Failed


@dataclass(frozen=True)
class Launch:
    """How a server is started on an instance."""

    script: str
    """POSIX shell text that becomes the server (its last command should be ``exec``). Every value in it is quoted.

    The environment variable ``VASTGPU_HOST`` holds the address on which the server should listen: 127.0.0.1, or 0.0.0.0
    if its port is to be public.
    """
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment of the script. It is sent over SSH in a file of mode 0600, never on a command line."""


class Adapter(Protocol):
    """Knows one kind of server: how to start it, how to recognise that it is ready, and whose fault a failure is."""

    name: str
    """The value of a workload's ``adapter``."""
    default_image: str
    """Docker image for workloads that name none."""
    warmup_s: float
    """Most seconds from launch to ready while the log shows no progress."""

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """How to start the server so that it listens on the address ``$VASTGPU_HOST``.

        :param api_key: Random secret of this instance; servers that can require a key should require it.
        """
        ...

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        """HTTP headers that a client of the endpoint must send."""
        ...

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        """Commands to run on the instance, repeatedly while the server starts.

        The secret is in the environment variable ``VASTGPU_API_KEY`` of every probe: keep it out of command lines.
        """
        ...

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """Whether the server is ready, still starting, or failed."""
        ...


_PARTS = ("launch", "headers", "probes", "assess")


def checked(adapter: object, origin: str) -> Adapter:
    """The same adapter, after a check of its parts.

    :param origin: The adapter's source, for the message.
    :raises ConfigurationError: if it is not an adapter.
    """
    missing = [part for part in _PARTS if not callable(getattr(adapter, part, None))]
    missing += [name for name in ("name", "default_image") if not isinstance(getattr(adapter, name, None), str)]
    missing += [name for name in ("warmup_s",) if not isinstance(getattr(adapter, name, None), (int, float))]
    if missing:
        raise ConfigurationError(
            f"{origin} gave {kind_of(adapter)}, which is no adapter: it lacks {', '.join(missing)}"
        )
    return adapter  # type: ignore[return-value] # the check above has looked at its parts


def kind_of(value: object) -> str:
    """A value's class, for messages."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def require_adapter(name: str, known: Iterable[str], test: str = "") -> None:
    """Check that there is an adapter of a name.

    :param test: The test that needs it, for the message.
    :raises ConfigurationError: if there is none, with all that there are, the nearest first.
    """
    known = sorted(known)
    if name not in known:
        where = f"{test}: " if test else ""
        raise ConfigurationError(
            f"{where}no adapter is called {name!r}; there are: {', '.join(nearest_first(name, known))} (a conftest "
            "file that brings one must be in a directory named on the command line, or in the root directory)"
        )


def by_name(found: Iterable[tuple[Adapter, str]]) -> dict[str, Adapter]:
    """Adapters by their names.

    :param found: Each adapter with its source.
    :raises ConfigurationError: if two adapters have the same name.
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
