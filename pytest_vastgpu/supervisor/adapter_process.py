"""The processes that run the adapters of this package and of installed packages.

An adapter may judge a log of megabytes for a second or more while it holds the GIL. In the supervisor itself that would
stop the tunnels of the tests that run meanwhile. So the supervisor calls these adapters in another process, by the same
calls that reach adapters of conftest files in the pytest process.

That process may die, or hang in the code of a package, and is then started again. A fork must come from a process
without threads and secrets. So the supervisor forks a keeper before it has either; the keeper loads nothing, forks the
process with the adapters whenever it is asked to, and ends it when it is asked again or the supervisor is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from typing import NoReturn

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.callbacks import HookServer
from pytest_vastgpu.client.calls import AdapterOffer
from pytest_vastgpu.core import child
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.diagnosis.verdicts import prepare
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.registry import adapters
from pytest_vastgpu.supervisor.callbacks import HookClient
from pytest_vastgpu.supervisor.callbacks import NoAnswer

LOADS_WITHIN_S = 120.0
"""How long importing the adapters' modules may take: some import a machine learning library."""
_PR_SET_PDEATHSIG = 1
NICENESS = 5
"""Gives the supervisor and the tests priority on a machine with few processors."""


class AdapterProcess:
    """The supervisor's side of these processes. Thread-safe, but must be created while there is only one thread.

    :param client: Makes what sends the calls to one process.
    :param close: A descriptor that the processes close.
    :param load: Loads the adapters, in the process.
    :param within_s: How long loading may take.
    :param tell: Writes a line for people.
    """

    def __init__(
        self,
        client: Callable[[], HookClient],
        close: int,
        load: Callable[[], Sequence[tuple[Adapter, str]]] = adapters,
        within_s: float = LOADS_WITHIN_S,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._make_client = client
        self._within_s = within_s
        self._tell = tell
        self._starting = threading.Lock()
        """Its holder starts a process, and replaces the fields below."""
        self._closed = False
        self._keeper, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            os.close(close)
            self._keeper.close()
            _keep(theirs, load)
        theirs.close()
        self._client = client()
        self._sock = self._start()

    def offers(self) -> list[AdapterOffer]:
        """Wait until the process has loaded the adapters, and connect to it; returns the adapters. Call it once.

        :raises Cancelled: the run is ending.
        :raises ConfigurationError: if an adapter is unusable.
        :raises HookFailed: if the process has died, or has not loaded the adapters in time.
        """
        with self._starting:
            return self._connect()

    def ask(self, who: str, call: rpc.Call, *arguments: Any) -> Any:
        """See :meth:`HookClient.ask`. Where the process has died or does not answer, another one is asked, once.

        :raises Cancelled: the run is ending.
        :raises HookFailed: also if that one does not answer either.
        """
        client = self._client
        try:
            return client.ask(who, call, *arguments)
        except (Cancelled, NoAnswer) as failed:
            if self._closed:
                raise Cancelled from None
            why = "does not answer" if isinstance(failed, NoAnswer) else "has died"
        client = self._again(client, why)
        try:
            return client.ask(who, call, *arguments)
        except (Cancelled, NoAnswer):
            if self._closed:
                raise Cancelled from None
            raise HookFailed(
                f"the process that judges logs {why}, and so did the one that was started in its place; the "
                "supervisor's log may say why"
            ) from None

    def close(self) -> None:
        """End the processes, and wait a little for it."""
        if not self._closed:
            self._closed = True
            self._client.cancel()
            for sock in (self._sock, self._keeper):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # also where it is stopped; what it has started ends with it
            # Nothing is given back before this returns, and one that a debugger holds ends when that lets it go.
            reaping = threading.Thread(target=self._reap, name="vastgpu-adapters-end", daemon=True)
            reaping.start()
            reaping.join(DEFAULTS.leave_s)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _again(self, dead: HookClient, why: str) -> HookClient:
        """Start another process in the place of one, if no other thread has done so."""
        with self._starting:
            if self._client is dead:
                self._tell(f"the process that judges logs {why}, and is started again")
                dead.cancel()
                self._sock.close()
                self._sock = self._start()
                self._client = self._make_client()
                self._connect()
            return self._client

    def _start(self) -> socket.socket:
        """Have the keeper start a process; returns the connection to it."""
        ours, theirs = socket.socketpair()
        with theirs, suppress(OSError):  # the keeper is dead, so that this connection has an end, too
            socket.send_fds(self._keeper, [b"start"], [theirs.fileno()])
        return ours

    def _connect(self) -> list[AdapterOffer]:
        try:
            found = self._loaded()
        except Exception:
            self._client.cancel()  # so that the next call does not wait for a connection, but starts a process anew
            if self._closed:
                raise Cancelled from None
            raise
        threading.Thread(target=self._client.attach, args=(self._sock,), name="vastgpu-adapters", daemon=True).start()
        return found

    def _loaded(self) -> list[AdapterOffer]:
        """Wait until the process has loaded the adapters; returns them."""
        try:
            said = messages.receive(self._sock, within_s=self._within_s)
        except TimeoutError:
            raise HookFailed(
                f"the adapters of installed packages were not loaded within {self._within_s:g} s: one of their modules "
                "waits for something when it is imported"
            ) from None
        except (EOFError, OSError, ValueError) as error:
            raise HookFailed("the process that judges logs has died; the supervisor's log may say why") from error
        if "error" in said:
            raise rpc.decode_error(said["error"])
        found: list[AdapterOffer] = decode(list[AdapterOffer], said["offers"])
        return found


def _keep(control: socket.socket, load: Callable[[], Sequence[tuple[Adapter, str]]]) -> NoReturn:
    """Start a process whenever the supervisor asks for it, and return never."""
    worker = 0
    try:
        # Adapters of other packages must not read the pipe that brings the API key to the supervisor.
        child.close_input()
        with suppress(OSError):
            os.nice(NICENESS)
        while True:
            _, descriptors, _, _ = socket.recv_fds(control, len(b"start"), 1)
            _end(worker)
            worker = 0
            if not descriptors:
                break  # the supervisor is gone
            keeper = os.getpid()
            worker = os.fork()
            if not worker:
                control.close()
                _end_with_the_keeper(keeper)
                _serve_for_ever(socket.socket(fileno=descriptors[0]), load)
            os.close(descriptors[0])
    except BaseException:  # noqa: BLE001 - printed; the process ends here
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            _end(worker)
        os._exit(0)


def _end(worker: int) -> None:
    """End a process, whatever it does: it may judge a log, hang in an import, or be stopped."""
    if worker:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(worker, 0)


def _end_with_the_keeper(keeper: int) -> None:
    """Have the kernel end this process when the keeper ends, also by SIGKILL."""
    with suppress(AttributeError, OSError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != keeper:  # it ended before that
        os._exit(1)


def _serve_for_ever(sock: socket.socket, load: Callable[[], Sequence[tuple[Adapter, str]]]) -> NoReturn:
    """Answer until the supervisor is gone, and never return."""
    code = 1
    try:
        _serve(sock, load)
        code = 0
    except BaseException:  # noqa: BLE001 - printed; the process ends here
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(sock: socket.socket, load: Callable[[], Sequence[tuple[Adapter, str]]]) -> None:
    try:
        found = load()
    except ConfigurationError as error:
        messages.send(sock, {"error": rpc.encode_error(error)})
        return
    offers = [AdapterOffer(a.name, a.default_image, float(a.warmup_s), origin) for a, origin in found]
    with suppress(OSError):  # the supervisor is gone
        messages.send(sock, {"offers": encode(offers)})
        prepare()  # while nobody waits: no server has printed anything yet
        HookServer(sock, None, {adapter.name: adapter for adapter, _ in found}).serve()
