"""What this project needs of a connection to an instance."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.ssh.address import SshAddress

_NEAREST_FIRST = (
    ProbeFailure.HOST_KEY,
    ProbeFailure.AUTHENTICATION,
    ProbeFailure.TRANSPORT,
    ProbeFailure.REFUSED,
    ProbeFailure.TIMEOUT,
    ProbeFailure.UNREACHABLE,
)


@dataclass(frozen=True)
class AddressFailure:
    """Why one address did not let us in."""

    address: SshAddress
    kind: ProbeFailure
    text: str

    def __str__(self) -> str:
        return f"{self.address}: {self.text}"


class ConnectFailed(VastGpuError):
    """No address of the instance let us in.

    :param failures: One for each address, in the order in which they were tried.
    """

    def __init__(self, failures: Sequence[AddressFailure]) -> None:
        super().__init__("no SSH login: " + "; ".join(map(str, failures)))
        self.failures = tuple(failures)

    @property
    def kind(self) -> ProbeFailure:
        """The failure of the address where we came nearest to being logged in."""
        return min((failure.kind for failure in self.failures), key=_NEAREST_FIRST.index)


class TransferFailed(VastGpuError):
    """A file could not be written on the instance.

    :param result: How the command that should write it ended.
    """

    def __init__(self, message: str, result: ProbeResult) -> None:
        super().__init__(message)
        self.result = result


class Stream(Protocol):
    """A command that lives long, and whose lines are handed over as they arrive."""

    problem: str
    """What broke it off before its end; empty where nothing did."""

    @property
    def stderr(self) -> str:
        """What the command has printed on stderr."""
        ...

    def hang_up(self) -> None:
        """End it, and wait for nothing: its stdin ends, which tells the command that nobody listens any more."""
        ...


class Connection(Protocol):
    """A connection that is logged in. All methods may be called from any thread."""

    address: SshAddress
    """Where we are logged in."""

    @property
    def alive(self) -> bool:
        """False once the connection is closed or known to be broken."""
        ...

    def run(
        self,
        command: str,
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        name: str = "command",
        spare: bool = False,
    ) -> ProbeResult:
        """Run a command and wait for its end. What goes wrong on the way is in the result, never raised.

        :param spare: Use the session that is kept free for the one caller who can never wait for others to end.
        """
        ...

    def probe_all(self, probes: Iterable[Probe], env: Mapping[str, str] | None = None) -> dict[str, ProbeResult]:
        """Run several probes at the same time; their results by name."""
        ...

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600, timeout_s: float = 60.0) -> None:
        """Write a file on the instance. It appears whole or not at all, and never with a wider mode.

        :raises TransferFailed: it could not be written.
        """
        ...

    def stream(
        self,
        command: str,
        on_line: Callable[[str], None],
        on_end: Callable[[int | None], None] | None = None,
        *,
        env: Mapping[str, str] | None = None,
    ) -> Stream:
        """Run a command that lives long and hand over each line of its stdout the moment it arrives.

        :param on_end: Called once, after the last line, with the exit code, or None where the command was not run, was
            stopped by us, or the connection broke.
        """
        ...

    def close(self) -> None:
        """Close the connection, and end whatever waits on it."""
        ...


class Forward(Protocol):
    """A port on this machine's loopback that leads to a port on the instance's."""

    @property
    def url(self) -> str:
        """Where an HTTP server at the other end is found from here."""
        ...

    def close(self) -> None:
        """Listen no more, and cut off what is under way."""
        ...


class Connector(Protocol):
    """How a run reaches its instances."""

    def dialler(self, addresses: Sequence[SshAddress]) -> Callable[[], Connection]:
        """What connects to one instance, each time it is called; the instance's identity is kept in between.

        What is returned raises :class:`ConnectFailed` if no address lets us in.
        """
        ...

    def forward(self, connection: Callable[[], Connection | None], port: int) -> Forward:
        """Forward a port.

        :param connection: Asked for each client; gives the connection of the moment.
        """
        ...

    def speaks_ssh(self, address: SshAddress) -> bool:
        """Whether a server greets us there as SSH servers do. Our key is not shown to find that out."""
        ...

    def answers(self, host: str, port: int) -> bool:
        """Whether anything answers there, be it with a refusal."""
        ...
