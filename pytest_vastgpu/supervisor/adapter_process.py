"""The child process that runs the adapters of this package and of installed packages.

An adapter may judge a log of megabytes for a second or more while it holds the GIL. In the supervisor itself that would
stop the tunnels of the tests that run meanwhile. So the supervisor calls these adapters in a child process, by the same
calls that reach adapters of conftest files in the pytest process. It forks the child before it has threads or secrets.
"""

from __future__ import annotations

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
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.registry import adapters
from pytest_vastgpu.supervisor.callbacks import HookClient

LOADS_WITHIN_S = 120.0
"""How long importing the adapters' modules may take: some import a machine learning library."""
NICENESS = 5
"""Gives the supervisor and the tests priority on a machine with few processors."""


class AdapterProcess:
    """The supervisor's side of the child process. Thread-safe, but must be created while there is only one thread.

    :param client: Sends the calls to the child.
    :param close: A descriptor that the child closes.
    :param load: Loads the adapters, in the child.
    :param within_s: How long loading may take.
    """

    def __init__(
        self,
        client: HookClient,
        close: int,
        load: Callable[[], Sequence[tuple[Adapter, str]]] = adapters,
        within_s: float = LOADS_WITHIN_S,
    ) -> None:
        self._client = client
        self._within_s = within_s
        self._sock, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            os.close(close)
            self._sock.close()
            _serve_for_ever(theirs, load)
        theirs.close()
        self._closed = False

    def offers(self) -> list[AdapterOffer]:
        """Wait until the child has loaded the adapters, and connect to it; returns the adapters. Call it once.

        :raises ConfigurationError: if an adapter is unusable.
        :raises HookFailed: if the child has died, or has not loaded the adapters in time.
        """
        try:
            said = messages.receive(self._sock, within_s=self._within_s)
        except TimeoutError:
            raise HookFailed(
                f"the adapters of installed packages were not loaded within {self._within_s:g} s: one of their modules "
                "waits for something when it is imported"
            ) from None
        except (EOFError, OSError) as error:
            raise HookFailed("the process that judges logs has died; the supervisor's log may say why") from error
        if "error" in said:
            raise rpc.decode_error(said["error"])
        threading.Thread(target=self._client.attach, args=(self._sock,), name="vastgpu-adapters", daemon=True).start()
        found: list[AdapterOffer] = decode(list[AdapterOffer], said["offers"])
        return found

    def ask(self, who: str, call: rpc.Call, *arguments: Any) -> Any:
        """See :meth:`HookClient.ask`.

        :raises HookFailed: also if the child has died.
        """
        try:
            return self._client.ask(who, call, *arguments)
        except Cancelled:
            if self._closed:
                raise
            raise HookFailed(
                f"the process that judges logs (process {self.pid}) has died; the supervisor's log may say why"
            ) from None

    def close(self) -> None:
        """End the child."""
        if not self._closed:
            self._closed = True
            self._client.cancel()
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # it may be judging a log
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


def _serve_for_ever(sock: socket.socket, load: Callable[[], Sequence[tuple[Adapter, str]]]) -> NoReturn:
    """Answer until the supervisor is gone, and never return."""
    code = 1
    try:
        # Adapters of other packages must not read the pipe that brings the API key to the supervisor.
        child.close_input()
        with suppress(OSError):
            os.nice(NICENESS)
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
        HookServer(sock, None, {adapter.name: adapter for adapter, _ in found}).serve()
