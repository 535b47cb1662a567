"""The execnet gateways of one host: a proxy, which is the connection, and one for each of its workers.

Each host has a group of its own, so that one that is lost is forgotten as a whole, and holds up the end of no other.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import subprocess
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import execnet
from execnet.gateway_base import RemoteError
from execnet.gateway_base import TimeoutError as NoAnswer

from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.plugin.on_host import pipes
from pytest_vastgpu.plugin.on_host.hosts import Host

BROKEN = (OSError, EOFError, AssertionError, RemoteError, NoAnswer, execnet.HostNotFound)
"""How execnet says that the other side is not there, or not what it expects."""
ANSWERS_S = 10.0
"""A proxy from which nothing came for so long does not answer. On a slow line its answer waits behind a report."""


class StartsNot(Exception):
    """A Python on a host has said nothing for the whole of its time. The way there may be well."""


class Gateways:
    """The connection to one host, and what runs at its other end.

    :param host: The host.
    :param command: The command line that execnet takes for a Python, and that leads to one on the host.
    :param within_s: Time limit for Pythons there to start.
    """

    def __init__(self, host: Host, command: str, within_s: float = DEFAULTS.host_python_s) -> None:
        self._group = execnet.Group()
        self._host = host
        self._id = host.name.replace(" ", "-")
        self._command = command
        self._within_s = within_s
        self._over = False
        self.arrived = 0
        """Bytes that have come from the host."""

    def connect(self) -> None:
        """Start the proxy. Takes as long as the host's Python does to start.

        :raises: one of :data:`BROKEN`, or :class:`StartsNot`.
        """
        spec = f"popen//id={self._id}//execmodel=thread//python={self._command}"
        (proxy,) = self._started({self._id: lambda: self._group.makegateway(spec)}).values()
        self._count(proxy)
        if not self.answers():
            raise EOFError("the connection has ended before anything came")

    def start(self, ids: Sequence[str]) -> list[execnet.Gateway]:
        """Start a process for each of these workers, at the same time.

        :raises: one of :data:`BROKEN`, or :class:`StartsNot`: they did not all start.
        """

        def start(name: str) -> execnet.Gateway:
            python = pipes.to_worker(self._host, name)
            spec = f"execmodel=main_thread_only//popen//id={name}//via={self._id}//python={python}"
            gateway = self._group.makegateway(spec)
            gateway._rinfo()  # it is kept: xdist asks for it, too, where waiting would hold up all hosts
            return gateway

        started = self._started({name: functools.partial(start, name) for name in ids})
        return [started[name] for name in ids]

    def _started(self, starts: Mapping[str, Callable[[], execnet.Gateway]]) -> dict[str, execnet.Gateway]:
        """Start some at the same time. execnet waits without a limit, so each has a thread that can be left behind.

        :raises: what the first that failed has raised; :class:`StartsNot` if one takes too long.
        """
        started: dict[str, execnet.Gateway] = {}
        failed: list[BaseException] = []

        def begin(name: str, start: Callable[[], execnet.Gateway]) -> None:
            try:
                started[name] = start()
                if self._over:  # nobody waits for it any more
                    self.abandon()
            except KeyError:
                failed.append(EOFError("the connection is over"))  # the proxy was forgotten meanwhile
            except BaseException as error:  # noqa: BLE001 - raised below
                failed.append(error)

        threads = [
            threading.Thread(target=begin, args=each, name="vastgpu-worker", daemon=True) for each in starts.items()
        ]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + self._within_s
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        if failed:
            raise failed[0]
        if any(thread.is_alive() for thread in threads):
            raise StartsNot(f"it has said nothing for {self._within_s:.0f} s")
        return started

    def answers(self) -> bool:
        """Whether the connection lives, and the proxy at its other end."""
        try:
            channel = self._group[self._id].remote_exec("channel.send(1)")
            while True:
                before = self.arrived
                with contextlib.suppress(NoAnswer):
                    return bool(channel.receive(ANSWERS_S) == 1)
                if self.arrived == before:
                    return False
        except (*BROKEN, KeyError):
            return False

    def _count(self, proxy: execnet.Gateway) -> None:
        """Have each byte counted when it comes: a message counts only once it is whole."""
        io: Any = proxy._io  # that of a process
        read: Callable[[int], bytes] = io.infile.read1

        def counted(size: int) -> bytes:
            parts, left = [], size
            while left and (data := read(left)):
                self.arrived += len(data)
                left -= len(data)
                parts.append(data)
            return b"".join(parts)

        io._read = counted

    def end(self, within_s: float) -> None:
        """End all processes at the other end, then the connection.

        :param within_s: What has not ended by then is left to the end of the instance.
        """
        ending = threading.Thread(target=self._terminate, args=(within_s,), name="vastgpu-workers-end", daemon=True)
        ending.start()
        ending.join(within_s)
        self.abandon()

    def abandon(self) -> None:
        """Cut the connection: nobody is at its other end, or nobody cares. Idempotent."""
        self._over = True
        atexit.unregister(self._group._cleanup_atexit)
        ours = [*self._group._gateways, *self._group._gateways_to_join]
        self._group._gateways.clear()
        self._group._gateways_to_join.clear()
        for gateway in ours:
            if not gateway.spec.via:
                io: Any = gateway._io  # that of a process
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # a debugger may hold it
                    io.kill()
                    io.popen.wait(DEFAULTS.leave_s)

    def _terminate(self, within_s: float) -> None:
        # One by one: execnet itself waits for no other once it meets one that has crashed.
        workers = [gateway for gateway in self._group if gateway.spec.via]
        for worker in workers:
            with contextlib.suppress(*BROKEN):
                worker.exit()
        for worker in workers:
            with contextlib.suppress(*BROKEN):
                worker.join()
                worker._io.wait()
        self._group._gateways_to_join.clear()
        with contextlib.suppress(*BROKEN):
            self._group.terminate(within_s)
