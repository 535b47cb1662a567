"""Published UDP ports: datagrams in, and the answers back to whoever asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import cast

IDLE_S = 120.0
"""A client that has been silent for so long is forgotten, as by Linux's own forwarding."""
_LARGEST = 1 << 16

Address = tuple[str, int]


class Forwarding(asyncio.DatagramProtocol):
    """Carries what comes to a socket on to a port of this network's loopback.

    For each client it does so from a socket of its own, so that the answers find their way back.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._loop = asyncio.get_running_loop()
        self._clients: dict[Address, tuple[socket.socket, asyncio.TimerHandle]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._outside = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, client: Address) -> None:
        inside = self._inside(client)
        with contextlib.suppress(OSError):  # nobody listens there: the datagram is lost, as datagrams are
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
        with contextlib.suppress(OSError):  # what was sent before has found nobody
            self._outside.sendto(inside.recv(_LARGEST), client)

    def _forget(self, client: Address) -> None:
        inside, _ = self._clients.pop(client)
        self._loop.remove_reader(inside)
        inside.close()
