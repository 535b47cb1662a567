"""The line between xdist workers and the desk in the controller: calls over a Unix socket that only this user opens."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from collections.abc import Mapping
from multiprocessing.connection import Client
from multiprocessing.connection import Connection
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.lifecycle.clock import Cancelled
from pytest_vastgpu.lifecycle.instance import Lease
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload


class LineServer:
    """Answers workers' calls, each worker in a thread of its own.

    :param calls: What may be called, by name.
    """

    def __init__(self, socket: Path, calls: Mapping[str, Callable[..., Any]]) -> None:
        self._listener = Listener(str(socket), family="AF_UNIX")
        self._calls = calls
        threading.Thread(target=self._accept, name="vastgpu-line", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), name="vastgpu-line", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection, contextlib.suppress(EOFError, OSError):  # the worker is gone, whatever it was doing
            while True:
                name, arguments = connection.recv()
                connection.send(self._answer(name, arguments))

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        try:
            return "result", self._calls[name](*arguments)
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
        self._listener.close()


class LineDesk:
    """A worker's desk: hands every call to the controller. Implements :class:`Desk`."""

    def __init__(self, socket: str) -> None:
        self._lock = threading.Lock()
        self._connection = Client(socket, family="AF_UNIX")

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
        lease: Lease = self.call("acquire", test, workload, exclusive)
        return lease

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

    def lost(self, label: str) -> Verdict | None:
        """See :meth:`Desk.lost`."""
        verdict: Verdict | None = self.call("lost", label)
        return verdict

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
