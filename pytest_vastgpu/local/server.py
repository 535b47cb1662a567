"""The process of the local market."""

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
_START_LOCK_S = 30.0
"""Limit of the wait for another market that starts; it holds the lock for milliseconds."""
_GRACE_S = 1
"""The time that running requests get at the end."""


@dataclass(frozen=True)
class Served:
    """The sockets of a market, and the directory for the disks of instances."""

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
    rate_limits: bool | None = None,
    lifeline: int | None = None,
    api_key: str = "",
) -> int:
    """Serve a local market until SIGINT, SIGTERM or the end of the lifeline; then destroy its instances.

    Once it serves, it writes one line of JSON to standard output: ``url``, ``api_key``, ``pid``, ``state_dir``.

    :param port: On 127.0.0.1; 0 for a free one.
    :param fleet: See :mod:`pytest_vastgpu.local.fleet.fleet`; None: this machine alone.
    :param images: Entrypoints of images, each as ``PATTERN=COMMAND``.
    :param state_dir: The directory for the disks of instances; None for one that is removed at the end.
    :param rate_limits: Whether minimum intervals between calls are enforced; None: as in the fleet.
    :param lifeline: A descriptor whose end of file ends the market.
    :param api_key: The account's key; empty: a random one.
    :returns: The exit code, 0.
    :raises LocalMarketError: if the fleet file, the port or the directory cannot be used.
    """
    plan = read_fleet(fleet) if fleet else Fleet()
    if rate_limits is not None:
        plan = replace(plan, rules=replace(plan.rules, rate_limits=rate_limits))
    table = {**_image_table(images), **plan.images, **BUILT_IN_IMAGES}
    # Until the server runs, a signal must not end the process with its default action, which skips the clean-up.
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
    _on_signal(lambda: setattr(server, "should_exit", True))  # until uvicorn installs its own handlers
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


def _end_with(lifeline: int, server: uvicorn.Server) -> None:
    """End the server when the other end of the lifeline is closed."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(lifeline, 4096):
            loop.remove_reader(lifeline)
            server.should_exit = True

    os.set_blocking(lifeline, False)
    loop.add_reader(lifeline, read)


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


@contextmanager
def _state_directory(wanted: Path | None) -> Iterator[Path]:
    """Lock a directory for this market, and remove the disks that an earlier market left in it."""
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
        except Timeout as busy:
            if wanted is None:
                raise LocalMarketError(
                    f"another local market has been starting for {_START_LOCK_S:g} s and holds {busy.lock_file}: end it"
                ) from None
            raise LocalMarketError(
                f"another local market uses the state directory {state}: end it, or give this one another --state-dir"
            ) from None
        except OSError as error:
            raise LocalMarketError(_unusable(wanted, error)) from error
        yield state


def _own_directory(starting: ExitStack) -> Path:
    """Make a fresh directory, and remove those of markets that were killed.

    :param starting: Holds a lock until the fresh directory has its own, so that no other market removes it.
    """
    parent = shared_by_own_processes()
    if parent is None:  # it belongs to another user, or others may write to it
        return fresh_directory("market")
    starting.enter_context(FileLock(parent / "start.lock", timeout=_START_LOCK_S))
    for old in parent.glob("market-*"):
        with suppress(Timeout, OSError), FileLock(old / "market.lock", timeout=0):
            shutil.rmtree(old, ignore_errors=True)
    return fresh_directory("market", parent)


def _require_text(path: Path) -> None:
    """Check that a path is text: SSH servers and shells in an instance read it.

    :raises OSError: if it is not text in UTF-8.
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
    # asyncio turns off Nagle's algorithm, which delays each answer by 40 ms, only if the protocol is given.
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
