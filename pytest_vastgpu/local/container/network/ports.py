"""Ports of an instance that others reach on this machine's loopback."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from pytest_vastgpu.local.market.env_flags import FIRST_IDENTITY_PORT

ADDRESS = "127.0.0.1"
BACKLOG = 128


@dataclass(frozen=True)
class Published:
    """A port that an instance is reached under."""

    asked: int
    """The container port, or a number from 70000 on for one that is the same inside and outside."""
    protocol: str
    outside: int
    leads_inside: socket.socket | None = None
    """What takes connections or datagrams for the instance; None where that is no business of this port's."""

    @property
    def inside(self) -> int:
        return self.asked if self.asked < FIRST_IDENTITY_PORT else self.outside

    @property
    def name(self) -> str:
        """As in Docker's map: ``8000/tcp``."""
        return f"{self.inside}/{self.protocol}"

    @property
    def variable(self) -> str:
        """The variable that tells the instance its number outside: ``VAST_TCP_PORT_8000``."""
        return f"VAST_{self.protocol.upper()}_PORT_{self.asked}"


def publish(asked: int, protocol: str, handed_over: contextlib.ExitStack, *, isolated: bool) -> Published:
    """Open a port.

    :param handed_over: Closes its socket here once the guest has it.
    :raises OSError: There is none left.
    """
    opened = handed_over.enter_context(
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    )
    opened.bind((ADDRESS, 0))
    number: int = opened.getsockname()[1]
    if asked >= FIRST_IDENTITY_PORT and not isolated:
        # Inside and outside are one there: the instance takes the port itself.
        opened.close()
        return Published(asked, protocol, number)
    if protocol == "tcp":
        opened.listen(BACKLOG)
    return Published(asked, protocol, number, opened)
