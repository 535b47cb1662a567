"""The execnet gateways of one host: a proxy, which is the connection, and one for each of its workers.

Each host has a group of its own, so that one that is lost is forgotten as a whole, and holds up the end of no other.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Sequence

import execnet
from execnet.gateway_base import RemoteError
from execnet.gateway_base import TimeoutError as NoAnswer

from pytest_vastgpu.plugin.on_host import pipes
from pytest_vastgpu.plugin.on_host.hosts import Host

BROKEN = (OSError, EOFError, AssertionError, RemoteError, NoAnswer)
"""How execnet says that the other side is not there, or not what it expects."""
ANSWERS_S = 10.0
"""A proxy that is silent for so long does not answer any more."""


class Gateways:
    """The connection to one host, and what runs at its other end.

    :param host: The host.
    :param command: The command line that execnet takes for a Python, and that leads to one on the host.
    """

    def __init__(self, host: Host, command: str) -> None:
        self._group = execnet.Group()
        self._host = host
        self._id = host.name.replace(" ", "-")
        self._command = command
        self._over = False

    def connect(self) -> None:
        """Start the proxy. Takes as long as the host's Python does to start.

        :raises: one of :data:`BROKEN`.
        """
        proxy = self._group.makegateway(f"popen//id={self._id}//execmodel=thread//python={self._command}")
        if not self.answers():
            raise EOFError("the connection has ended before anything came")
        del proxy

    def start(self, ids: Sequence[str]) -> list[execnet.Gateway]:
        """Start a process for each of these workers, at the same time.

        :raises: one of :data:`BROKEN`: they did not all start.
        """
        started: dict[str, execnet.Gateway] = {}
        failed: list[BaseException] = []

        def begin(name: str) -> None:
            try:
                python = pipes.to_worker(self._host, name)
                spec = f"execmodel=main_thread_only//popen//id={name}//via={self._id}//python={python}"
                gateway = self._group.makegateway(spec)
                gateway._rinfo()  # it is kept: xdist asks for it, too, where waiting would hold up all hosts
                started[name] = gateway
            except KeyError:
                failed.append(EOFError("the connection is over"))  # the proxy was forgotten meanwhile
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)

        threads = [threading.Thread(target=begin, args=(name,), name="vastgpu-worker", daemon=True) for name in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return [started[name] for name in ids]

    def answers(self) -> bool:
        """Whether the connection lives, and the proxy at its other end."""
        try:
            channel = self._group[self._id].remote_exec("channel.send(1)")
            return bool(channel.receive(ANSWERS_S) == 1)
        except (*BROKEN, KeyError):
            return False

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
        if self._over:
            return
        self._over = True
        atexit.unregister(self._group._cleanup_atexit)
        ours = [*self._group._gateways, *self._group._gateways_to_join]
        self._group._gateways.clear()
        self._group._gateways_to_join.clear()
        for gateway in ours:
            if not gateway.spec.via:
                with contextlib.suppress(OSError):
                    gateway._io.kill()

    def _terminate(self, within_s: float) -> None:
        with contextlib.suppress(*BROKEN):
            self._group.terminate(within_s)
