"""The protocols of a connection to an instance, and the errors of connecting."""

from __future__ import annotations

import socket
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
    """Why connecting at one address failed."""

    address: SshAddress
    kind: ProbeFailure
    text: str

    def __str__(self) -> str:
        return f"{self.address}: {self.text}"


class ConnectFailed(VastGpuError):
    """Connecting failed at every address of the instance.

    :param failures: One for each address, in the order in which they were tried.
    """

    def __init__(self, failures: Sequence[AddressFailure]) -> None:
        super().__init__("no SSH login: " + "; ".join(map(str, failures)))
        self.failures = tuple(failures)

    @property
    def kind(self) -> ProbeFailure:
        """The failure of the address where the login came furthest."""
        return min((failure.kind for failure in self.failures), key=_NEAREST_FIRST.index)


class TransferFailed(VastGpuError):
    """A file could not be written on the instance.

    :param result: The result of the command that writes it.
    """

    def __init__(self, message: str, result: ProbeResult) -> None:
        super().__init__(message)
        self.result = result


class Stream(Protocol):
    """A long-running command whose lines are passed to a callback as they arrive."""

    problem: str
    """Why it broke off before its end; empty where it did not."""

    @property
    def stderr(self) -> str:
        """What the command has printed on stderr."""
        ...

    def hang_up(self) -> None:
        """End it without waiting. Its stdin ends, which tells the command to end."""
        ...


@dataclass(frozen=True)
class Conversed:
    """How a command ended that conversed with a local socket."""

    pid: int
    """Its process id, and that of its group where the image has ``setsid``; 0 if it was not run."""
    exit_code: int | None
    """None where it did not end by itself."""
    problem: str = ""
    """Why it was not run, or broke off; empty where one of the two sides has ended."""


class Connection(Protocol):
    """A connection that is logged in. Thread-safe."""

    address: SshAddress
    """The address at which we are logged in."""

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
        """Run a command and wait for its end. The result holds any failure; none is raised.

        :param spare: Use the session that is reserved for the heartbeat, which cannot wait for other commands.
        """
        ...

    def send(
        self,
        command: str,
        data: Callable[[], Iterable[bytes]],
        *,
        still_s: float,
        watch: Callable[[], None] = lambda: None,
        name: str = "send",
    ) -> ProbeResult:
        """Run a command that reads more than fits into memory, and wait for its end; as :meth:`run` but for the limit.

        :param data: Gives its input, from the start at each call; the parts are made while they are sent. What it
            raises is passed on once the command has ended.
        :param still_s: Time limit without progress.
        :param watch: Called several times a second; what it raises ends the command and is passed on.
        """
        ...

    def probe_all(self, probes: Iterable[Probe], env: Mapping[str, str] | None = None) -> dict[str, ProbeResult]:
        """Run several probes at the same time; returns their results by name."""
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
        """Start a long-running command, and pass each line of its stdout to a callback as it arrives.

        :param on_line: Called with each line.
        :param on_end: Called once, after the last line, with the exit code, or None where the command was not run, was
            stopped by us, or the connection broke.
        """
        ...

    def converse(self, command: str, local: socket.socket, on_stderr: Callable[[bytes], None]) -> Conversed:
        """Run a command, and join its input and output to a socket, until either side ends. No failure is raised.

        :param on_stderr: Called with what the command prints there, as it comes.
        :raises ValueError: ``command`` cannot be written for a shell.
        """
        ...

    def close(self) -> None:
        """Close the connection, and end all calls that wait on it."""
        ...


class Forward(Protocol):
    """A port on this machine's loopback that is forwarded to a port on the instance's loopback."""

    unanswered: int
    """How often a client got no answer so far, because nothing listened at the other end, or because the server ended
    the connection instead."""
    hung_up: int
    """How often the server has ended a connection before the client did: after its answer, or at its own end."""

    @property
    def url(self) -> str:
        """URL of an HTTP server at the other end, from this machine."""
        ...

    def answers(self) -> bool:
        """Whether something listens at the other end. Takes one round trip."""
        ...

    def close(self) -> None:
        """Stop listening, and reset all open connections."""
        ...


class Connector(Protocol):
    """Connects a run to its instances."""

    def dialler(self) -> Callable[[Sequence[SshAddress]], Connection]:
        """A function that connects to one instance at each call, and keeps the instance's host key in between.

        It takes the addresses, at least one, and raises :class:`ConnectFailed` if every address fails.
        """
        ...

    def forward(self, connection: Callable[[], Connection | None], port: int) -> Forward:
        """Forward a port.

        :param connection: Called for each client; returns the present connection.
        """
        ...

    def speaks_ssh(self, address: SshAddress) -> bool:
        """Whether a server there sends the banner of SSH. This does not use our key."""
        ...

    def answers(self, host: str, port: int) -> bool:
        """Whether a host answers there, even with a refusal."""
        ...
