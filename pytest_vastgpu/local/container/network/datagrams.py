"""Published UDP ports: forwards datagrams, and the answers to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import cast

IDLE_S = 120.0
"""A client that was silent for this time is forgotten, as by Linux's own forwarding."""
_LARGEST = 1 << 16

Address = tuple[str, int]


class Forwarding(asyncio.DatagramProtocol):
    """Forwards datagrams to a port on the loopback of this network namespace.

    Each client gets a socket of its own there, so that the answers can be sent to the right client.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._loop = asyncio.get_running_loop()
        self._clients: dict[Address, tuple[socket.socket, asyncio.TimerHandle]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._outside = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, client: Address) -> None:
        inside = self._inside(client)
        with contextlib.suppress(OSError):  # no process listens there: the datagram is lost
            inside.send(data)

    def _inside(self, client: Address) -> socket.socket:
        if client in self._clients:
            inside, forgetting = self._clients[client]
            forgetting.cancel()
        else:
            inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            inside.setblocking(False)
            inside.connect(self._target)
            self._loop.add_reader(inside, self._answer, inside, client)
        self._clients[client] = inside, self._loop.call_later(IDLE_S, self._forget, client)
        return inside

    def _answer(self, inside: socket.socket, client: Address) -> None:
        with contextlib.suppress(OSError):  # no process listened for the datagram before
            self._outside.sendto(inside.recv(_LARGEST), client)

    def _forget(self, client: Address) -> None:
        inside, _ = self._clients.pop(client)
        self._loop.remove_reader(inside)
        inside.close()
