"""Published ports of an instance, on this machine's loopback."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
import socket
from dataclasses import dataclass

Port = tuple[int, str]
"""A container port and its protocol, ``tcp`` or ``udp``."""

FIRST_IDENTITY_PORT = 70_000
"""A number from here on is not a port: it requests a port with the same number inside and outside."""
ADDRESS = "127.0.0.1"
BACKLOG = 128
_NOT_GIVEN_OUT = range(30_000, 32_768)
"""Ports that the system gives to nobody who asks for any: a free one is free until the instance binds it."""
_NUMBERS = itertools.cycle(random.SystemRandom().sample(_NOT_GIVEN_OUT, len(_NOT_GIVEN_OUT)))


@dataclass(frozen=True)
class Published:
    """A published port."""

    requested: int
    """The container port; a number from 70000 on requests the same port inside and outside."""
    protocol: str
    outside: int
    listener: socket.socket | None = None
    """Receives connections or datagrams for the instance; None if the port needs no forwarding."""

    @property
    def inside(self) -> int:
        return self.requested if self.requested < FIRST_IDENTITY_PORT else self.outside

    @property
    def name(self) -> str:
        """Docker's name: ``8000/tcp``."""
        return f"{self.inside}/{self.protocol}"

    @property
    def variable(self) -> str:
        """The variable that holds the port outside: ``VAST_TCP_PORT_8000``."""
        return f"VAST_{self.protocol.upper()}_PORT_{self.requested}"


def publish(requested: int, protocol: str, handed_over: contextlib.ExitStack, *, isolated: bool) -> Published:
    """Open a port.

    :param handed_over: Closes its socket in this process once the container init has it.
    :raises OSError: if no port is free.
    """
    opened = handed_over.enter_context(
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    )
    if requested >= FIRST_IDENTITY_PORT and not isolated:
        # Without isolation the instance itself can bind the port, under the same number.
        number = _bound_for_later(opened)
        opened.close()
        return Published(requested, protocol, number)
    opened.bind((ADDRESS, 0))
    if protocol == "tcp":
        opened.listen(BACKLOG)
    return Published(requested, protocol, opened.getsockname()[1], opened)


def _bound_for_later(opened: socket.socket) -> int:
    for number in itertools.islice(_NUMBERS, len(_NOT_GIVEN_OUT)):
        with contextlib.suppress(OSError):  # another program has it
            opened.bind((ADDRESS, number))
            return number
    raise OSError(errno.EADDRINUSE, "no port is free")
