"""Serves a local market: uvicorn, the market's own clock, and their end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.api.app import make_app
from pytest_vastgpu.local.container.fork_server import close_fork_server
from pytest_vastgpu.local.container.fork_server import running_fork_server
from pytest_vastgpu.local.fleet.fleet import BUILT_IN_IMAGES
from pytest_vastgpu.local.fleet.fleet import Fleet
from pytest_vastgpu.local.fleet.fleet import Host
from pytest_vastgpu.local.fleet.fleet import read_fleet
from pytest_vastgpu.local.fleet.machine import this_machine
from pytest_vastgpu.local.market.lifecycle import LifecycleContext
from pytest_vastgpu.local.market.market import Market
from pytest_vastgpu.local.state_directory import Served
from pytest_vastgpu.local.state_directory import opened_sockets
from pytest_vastgpu.local.state_directory import state_directory

_CREDIT_CHECK_S = 1.0
_GRACE_S = 1
"""The time that running requests get at the end."""
_LOOK_S = 0.005
"""Pause between two checks whether they have ended."""
_TICK_S = 1.0
"""Pause between two ticks of the running server."""
_TICKS_A_SECOND = 10
"""How uvicorn counts: at each tenth tick it renews the date in its answers."""


def serve_market(
    port: int,
    fleet: Path | None,
    images: Sequence[str],
    state_dir: Path | None,
    rate_limits: bool | None,
    lifeline: int | None,
    api_key: str,
) -> None:
    """See :func:`pytest_vastgpu.local.server.serve`.

    :raises LocalMarketError: if the fleet file, the port or the directory cannot be used.
    """
    plan = read_fleet(fleet) if fleet else Fleet()
    if rate_limits is not None:
        plan = replace(plan, rules=replace(plan.rules, rate_limits=rate_limits))
    table = {**_image_table(images), **plan.images, **BUILT_IN_IMAGES}
    # Until the server runs, a signal must not end the process with its default action, which skips the clean-up.
    _on_signal(lambda: None)
    with state_directory(state_dir) as state, opened_sockets(state, port) as served:
        if plan.this_machine:
            plan = replace(plan, hosts=(Host(this_machine(served.disks)), *plan.hosts))
        asyncio.run(_serve(plan, table, served, lifeline, api_key or secrets.token_hex(32)))


async def _serve(fleet: Fleet, images: dict[str, str], served: Served, lifeline: int | None, api_key: str) -> None:
    context = LifecycleContext(
        served.url, served.socket_path, served.disks, images, fleet.rules.image_gb, fleet.rules.seed, fleet.hides
    )
    market = Market(fleet, context, api_key)
    config = uvicorn.Config(
        make_app(market),
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)
    _on_signal(server.end)  # until uvicorn installs its own handlers
    if lifeline is not None:
        _end_with(lifeline, server)
    watch = asyncio.ensure_future(_watch(market))
    ready = {"url": served.url, "api_key": api_key, "pid": os.getpid(), "state_dir": str(served.disks.parent)}
    # The sockets listen already, so a client that reads this line can connect.
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    try:
        await server.serve(sockets=[served.tcp, served.unix])
    finally:
        watch.cancel()
        await market.destroy_all()
        close_fork_server()
        with suppress(asyncio.CancelledError):
            await watch


def _on_signal(act: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: act())


async def _watch(market: Market) -> None:
    """Start the fork server, so that the first instance need not wait for it, then watch the credit."""
    with suppress(LocalMarketError):  # the first instance shows it
        market.not_isolated = (await running_fork_server()).isolation().reason
        if market.not_isolated:
            sys.stderr.write(f"vastgpu: {market.not_isolated}\n")
            sys.stderr.flush()
    while True:
        await asyncio.sleep(_CREDIT_CHECK_S)
        await market.stop_what_cannot_be_paid()


def _end_with(lifeline: int, server: _Server) -> None:
    """End the server when the other end of the lifeline is closed."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(lifeline, 4096):
            loop.remove_reader(lifeline)
            server.end()

    os.set_blocking(lifeline, False)
    loop.add_reader(lifeline, read)


class _Server(uvicorn.Server):
    """Ends at once. uvicorn itself looks ten times a second whether it shall, and sleeps before it looks again.

    To be made in the event loop's thread, while that runs.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()

    def end(self) -> None:
        """Have it end. Safe in a signal handler."""
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._told.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        """Serve until it is told to end."""
        counter = 0
        while not await self.on_tick(counter):
            counter += _TICKS_A_SECOND
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), _TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end, for a while, and close all connections."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        ends = self._loop.time() + _GRACE_S
        while (state.connections or state.tasks) and self._loop.time() < ends and not self.force_exit:
            await asyncio.sleep(_LOOK_S)
        for task in state.tasks:
            task.cancel()


class _Connection(H11Protocol):
    """A connection that a fault can cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        super().connection_made(transport)
        self.app_state = {**self.app_state, "connection": self}

    def cut(self) -> None:
        """Close the connection at once: the client sees a reset or an incomplete answer."""
        self.transport.close()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)


def _image_table(images: Sequence[str]) -> dict[str, str]:
    table = {}
    for entry in images:
        pattern, equals, command = entry.partition("=")
        if not (equals and pattern.strip() and command.strip()):
            raise LocalMarketError(f"--image {entry!r}: it must be PATTERN=COMMAND, like 'me/server*=python -m server'")
        table[pattern.strip()] = command.strip()
    return table
