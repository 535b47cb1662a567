"""The process in which the adapters of this package and of installed packages answer.

Judging a log of megabytes takes a second or more in one piece, during which no thread of the same process moves: the
streams of tests that run meanwhile would stand still. So it is done in a child of the supervisor, by the same questions
as adapters of conftest files are asked in the pytest process. The child is forked off before the supervisor has threads
or has heard any secret.
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
"""How long the modules of adapters may take to be imported: some bring a machine learning library along."""
NICENESS = 5
"""What tests wait for comes first where processors are few."""


class AdapterProcess:
    """The supervisor's side. To be made while there is only one thread; any thread may use it then.

    :param client: Asks it.
    :param close: A descriptor that the child has no business with.
    :param load: Loads the adapters, in the child.
    :param within_s: How long that may take.
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
        """Wait until it has loaded the adapters, and have it answer from now on. To be called once.

        :raises ConfigurationError: what is wrong with one of them.
        :raises HookFailed: if it has died, or has not loaded them in time.
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

        :raises HookFailed: also if it has died.
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
        """Let it go."""
        if not self._closed:
            self._closed = True
            self._client.cancel()
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # it may be judging just now, and nothing must keep the end waiting
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


def _serve_for_ever(sock: socket.socket, load: Callable[[], Sequence[tuple[Adapter, str]]]) -> NoReturn:
    """Answer until the supervisor is gone, and never return."""
    code = 1
    try:
        # The pipe through which the supervisor hears the key is no business of other people's adapters.
        child.close_input()
        with suppress(OSError):
            os.nice(NICENESS)
        _serve(sock, load)
        code = 0
    except BaseException:  # noqa: BLE001 - the last that can be done with it
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
    with suppress(OSError):  # nobody wants it any more
        messages.send(sock, {"offers": encode(offers)})
        HookServer(sock, None, {adapter.name: adapter for adapter, _ in found}).serve()
