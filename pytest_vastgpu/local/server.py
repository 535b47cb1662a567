"""The local market as a process."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import uvicorn
from filelock import FileLock
from filelock import Timeout
from uvicorn.protocols.http.h11_impl import H11Protocol

from pytest_vastgpu.core.directories import LONGEST_SOCKET_PATH
from pytest_vastgpu.core.directories import fresh_directory
from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.directories import shared_by_own_processes
from pytest_vastgpu.core.directories import socket_directory
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

_CREDIT_CHECK_S = 1.0
_GRACE_S = 1
"""Requests under way at the end get so long."""


@dataclass(frozen=True)
class Served:
    """Where a market serves, and where it keeps what."""

    tcp: socket.socket
    unix: socket.socket
    socket_path: Path
    disks: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.tcp.getsockname()[1]}"


def serve(
    *,
    port: int = 0,
    fleet: Path | None = None,
    images: Sequence[str] = (),
    state_dir: Path | None = None,
    lifeline: int | None = None,
    api_key: str = "",
) -> int:
    """Serve a local market until SIGINT, SIGTERM or the end of the lifeline; then end its instances.

    When it is up, one line of JSON goes to standard output: ``url``, ``api_key``, ``pid``, ``state_dir``.

    :param port: On 127.0.0.1; 0 for a free one.
    :param fleet: See :mod:`pytest_vastgpu.local.fleet.fleet`; None: this machine alone.
    :param images: ``PATTERN=COMMAND`` each: what an image's entrypoint is.
    :param state_dir: Where instances keep their disks; None for a directory that is removed at the end.
    :param lifeline: A descriptor whose end of file ends the market.
    :param api_key: The account's key; empty: a random one.
    :returns: The exit code, 0.
    :raises LocalMarketError: it cannot start: what is wrong with the fleet file, the port or the directory.
    """
    plan = read_fleet(fleet) if fleet else Fleet()
    table = {**_image_table(images), **plan.images, **BUILT_IN_IMAGES}
    # Whoever signals us wants an end in good order, not the default's sudden one.
    _on_signal(lambda: None)
    with _state_directory(state_dir) as state, _sockets(state, port) as served:
        if plan.this_machine:
            plan = replace(plan, hosts=(Host(this_machine(served.disks)), *plan.hosts))
        asyncio.run(_serve(plan, table, served, lifeline, api_key or secrets.token_hex(32)))
    return 0


async def _serve(fleet: Fleet, images: dict[str, str], served: Served, lifeline: int | None, api_key: str) -> None:
    context = LifecycleContext(
        served.url, served.socket_path, served.disks, images, fleet.rules.image_gb, fleet.rules.seed
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
    server = uvicorn.Server(config)
    _on_signal(lambda: setattr(server, "should_exit", True))  # until it has handlers of its own
    if lifeline is not None:
        _hold(lifeline, server)
    watch = asyncio.ensure_future(_watch(market))
    ready = {"url": served.url, "api_key": api_key, "pid": os.getpid(), "state_dir": str(served.disks.parent)}
    # The sockets listen already, so whoever reads this line can connect.
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
    """Have ready what the first instance would have to wait for, then look after the account."""
    with suppress(LocalMarketError):  # the first instance will say it
        market.not_isolated = (await running_fork_server()).isolation().reason
        if market.not_isolated:
            sys.stderr.write(f"vastgpu: {market.not_isolated}\n")
            sys.stderr.flush()
    while True:
        await asyncio.sleep(_CREDIT_CHECK_S)
        await market.stop_what_cannot_be_paid()


def _hold(lifeline: int, server: uvicorn.Server) -> None:
    """End the server when the other end of the lifeline is closed."""
    loop = asyncio.get_running_loop()

    def pulled() -> None:
        if not os.read(lifeline, 4096):
            loop.remove_reader(lifeline)
            server.should_exit = True

    os.set_blocking(lifeline, False)
    loop.add_reader(lifeline, pulled)


class _Connection(H11Protocol):
    """A connection that a fault can cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        super().connection_made(transport)
        self.app_state = {**self.app_state, "connection": self}

    def cut(self) -> None:
        """End it here and now: the client sees a reset or an answer that breaks off."""
        self.transport.close()


def _image_table(images: Sequence[str]) -> dict[str, str]:
    table = {}
    for entry in images:
        pattern, equals, command = entry.partition("=")
        if not (equals and pattern.strip() and command.strip()):
            raise LocalMarketError(f"--image {entry!r}: it must be PATTERN=COMMAND, like 'me/server*=python -m server'")
        table[pattern.strip()] = command.strip()
    return table


@contextmanager
def _state_directory(wanted: Path | None) -> Iterator[Path]:
    """A directory that only this market uses. What an earlier one has left in it is removed."""
    with ExitStack() as stack:
        state = wanted
        try:
            with ExitStack() as starting:
                state = private_directory(wanted) if wanted else _own_directory(starting)
                _require_text(state)
                stack.enter_context(FileLock(state / "market.lock", timeout=0))
            stack.callback(shutil.rmtree, state / "instances" if wanted else state, ignore_errors=True)
            shutil.rmtree(state / "instances", ignore_errors=True)
            (state / "instances").mkdir()
        except Timeout:
            raise LocalMarketError(
                f"another local market uses the state directory {state}: end it, or give this one another --state-dir"
            ) from None
        except OSError as error:
            raise LocalMarketError(_unusable(wanted, error)) from error
        yield state


def _own_directory(starting: ExitStack) -> Path:
    """A fresh directory; those of markets that were killed are removed.

    :param starting: Until it is closed no other market removes the directory, whose own lock is not held yet.
    """
    parent = shared_by_own_processes()
    if parent is None:  # what is there is somebody else's, or open to others
        return fresh_directory("market")
    starting.enter_context(FileLock(parent / "start.lock"))
    for old in parent.glob("market-*"):
        with suppress(Timeout, OSError), FileLock(old / "market.lock", timeout=0):
            shutil.rmtree(old, ignore_errors=True)
    return fresh_directory("market", parent)


def _require_text(path: Path) -> None:
    """SSH servers and shells in an instance read the path as text.

    :raises OSError: if it is none.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise OSError(errno.EILSEQ, "its name is not text in UTF-8", ascii(str(path))) from error


def _unusable(state: Path | None, error: OSError) -> str:
    why = error.strerror or error
    if state is None:
        return f"no state directory can be made ({why}): set TMPDIR to a directory of yours, or give a --state-dir"
    return f"the state directory {state} cannot be used ({why}): give another --state-dir"


@contextmanager
def _sockets(state: Path, port: int) -> Iterator[Served]:
    # With its protocol named, asyncio turns off Nagle's algorithm, which would hold up each answer by 40 ms.
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    unix = socket.socket(socket.AF_UNIX)
    path = state / "api.sock"
    short = None
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        try:
            short = socket_directory()
        except OSError as error:
            raise LocalMarketError(_unusable(state, error)) from error
        path = short / path.name
    path.unlink(missing_ok=True)
    try:
        try:
            tcp.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            way_out = "another program has it; give another --port, or none for a free one" if taken else str(error)
            raise LocalMarketError(f"port {port} on 127.0.0.1 cannot be used: {way_out}") from error
        unix.bind(str(path))
        for each in (tcp, unix):
            each.listen(512)
        yield Served(tcp, unix, path, state / "instances")
    finally:
        tcp.close()
        unix.close()
        path.unlink(missing_ok=True)
        if short is not None:
            short.rmdir()
