"""The line between xdist workers and the desk in the controller: calls over a local socket.

It is a Unix socket in Linux' abstract namespace, which has no file: nothing is left behind when the controller is
killed. Who calls has to say a secret that xdist gave its workers, before anything else that is said is looked at.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import socket
import threading
from collections.abc import Callable
from collections.abc import Mapping
from multiprocessing.connection import Client
from multiprocessing.connection import Connection
from typing import Any

from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.lifecycle.clock import Cancelled
from pytest_vastgpu.lifecycle.instance import Caller
from pytest_vastgpu.lifecycle.instance import Lease
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload


class LineServer:
    """Answers workers' calls, each worker in a thread of its own.

    :param calls: What may be called, by name; each is given the caller first.
    :param hung_up: Told of each caller that has gone, in whichever way.
    """

    def __init__(self, calls: Mapping[str, Callable[..., Any]], hung_up: Callable[[Caller], None]) -> None:
        self.address = f"\0vastgpu-{secrets.token_hex(16)}"
        self.token = secrets.token_hex(16)
        self._calls = calls
        self._hung_up = hung_up
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen()
        threading.Thread(target=self._accept, name="vastgpu-line", daemon=True).start()

    def _accept(self) -> None:
        for number in itertools.count(1):
            try:
                called, _ = self._listener.accept()
            except OSError:  # closed
                return
            connection = Connection(called.detach())
            threading.Thread(target=self._serve, args=(connection, number), name="vastgpu-line", daemon=True).start()

    def _serve(self, connection: Connection, number: int) -> None:
        with connection, contextlib.suppress(EOFError, OSError):  # the worker is gone, whatever it was doing
            if not secrets.compare_digest(connection.recv_bytes(len(self.token)), self.token.encode()):
                return
            # Nobody sends anything while waiting for an answer: what can be read then is the end.
            caller = Caller(f"worker {number}", gone=connection.poll)
            try:
                while True:
                    name, arguments = connection.recv()
                    connection.send(self._answer(caller, name, arguments))
            finally:
                self._hung_up(caller)

    def _answer(self, caller: Caller, name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        try:
            return "result", self._calls[name](caller, *arguments)
        except ProvisioningFailed as error:
            return "no instance", (str(error), error.attempts)
        except VastGpuError as error:
            return "error", str(error)
        except Cancelled:
            return "cancelled", ""
        except Exception as error:  # noqa: BLE001 - told to the worker, whose test fails with it
            return "error", f"{type(error).__name__}: {error} (a defect of pytest-vastgpu: please report it)"

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):  # it was closed before
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()


class LineDesk:
    """A worker's desk: hands every call to the controller. Implements :class:`Desk`.

    :param address: Where the controller listens.
    :param token: The secret to say first.
    """

    def __init__(self, address: str, token: str) -> None:
        self._lock = threading.Lock()
        self._using = False
        self._connection = Client(address, family="AF_UNIX")
        self._connection.send_bytes(token.encode())

    def call(self, name: str, *arguments: object) -> Any:
        """Call by name.

        :raises VastGpuError: what the controller raised, as text; a :class:`ProvisioningFailed` with its attempts.
        :raises Cancelled: the run is ending.
        """
        with self._lock:
            try:
                self._connection.send((name, arguments))
                kind, answer = self._connection.recv()
            except (EOFError, OSError) as error:
                raise VastGpuError("the pytest process that rents for all workers is gone") from error
        if kind == "no instance":
            raise ProvisioningFailed(*answer)
        if kind == "error":
            raise VastGpuError(answer)
        if kind == "cancelled":
            raise Cancelled
        return answer

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        """See :meth:`Desk.acquire`."""
        self._using = True
        lease: Lease = self.call("acquire", test, workload, exclusive)
        return lease

    def done(self, test: str) -> None:
        """See :meth:`Desk.done`. Costs nothing where the test had nothing."""
        if self._using:
            self._using = False
            self.call("done", test)

    def release(self, label: str) -> None:
        """See :meth:`Desk.release`."""
        self.call("release", label)

    def run(self, label: str, command: str, timeout_s: float) -> ProbeResult:
        """See :meth:`Desk.run`."""
        result: ProbeResult = self.call("run", label, command, timeout_s)
        return result

    def logs(self, label: str) -> str:
        """See :meth:`Desk.logs`."""
        return str(self.call("logs", label))

    def cost(self, label: str) -> float:
        """See :meth:`Desk.cost`."""
        return float(self.call("cost", label))

    def spent(self, test: str) -> float:
        """See :meth:`Desk.spent`."""
        return float(self.call("spent", test))

    def failed(self, label: str) -> None:
        """See :meth:`Desk.failed`."""
        self.call("failed", label)

    def lost(self, label: str) -> Verdict | None:
        """See :meth:`Desk.lost`."""
        verdict: Verdict | None = self.call("lost", label)
        return verdict

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
