"""Calls from the supervisor to hooks and adapters; they run in the process that has the hook or adapter.

:class:`HookCalls` and :class:`~pytest_vastgpu.servers.base.Adapter` declare the calls.
"""

from __future__ import annotations

import functools
import socket
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import Protocol

from pytest_vastgpu.client import rpc
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import NotDeclared
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.log_delta import LogDelta
from pytest_vastgpu.core.log_delta import LogReceiver
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import Observation

_Thread = threading.Thread  # bound now: a test may replace it later
_start = threading.Thread.start
HOOKS = "hooks"
"""The name that calls to hooks have, instead of an adapter's name."""
LONGEST_TEXT = 10_000
"""Most characters of an exception's text."""


class HookCalls(Protocol):
    """The hooks of plugins and conftest files, as plain calls."""

    def modify_offers(self, offers: list[Offer], workload: Workload) -> list[int]:
        """The ids of the remaining offers, in their new order."""
        ...

    def outcome(self, attempt: Attempt, workload: Workload) -> None:
        """Tell the hooks an outcome."""
        ...


@dataclass(frozen=True)
class Seen:
    """An observation whose log is sent as its new part only."""

    all_else: Observation
    """The observation without its log."""
    log: LogDelta


@functools.cache
def adapter_calls() -> dict[str, rpc.Call]:
    """The methods of an adapter, as they are sent."""
    return {
        name: rpc.Call(name, tuple(Seen if kind is Observation else kind for kind in call.takes), call.gives)
        for name, call in rpc.calls_of(Adapter).items()
    }


class HookServer:
    """Answers calls until the other side hangs up, each call in its own thread, so that a slow one delays no other.

    :param hooks: Answers calls to :data:`HOOKS`.
    :param adapters: Answers calls to adapters, by name.
    """

    def __init__(
        self,
        sock: socket.socket,
        hooks: HookCalls | None,
        adapters: Mapping[str, Adapter],
        largest: int = messages.LARGEST,
    ) -> None:
        self._largest = largest
        self._sock = sock
        self._hooks = hooks
        self._adapters = dict(adapters)
        self._logs = LogReceiver()
        self._sending = threading.Lock()

    def start(self) -> None:
        """Answer in the background."""
        _start(_Thread(target=self.serve, name="vastgpu-hooks", daemon=True))

    def serve(self) -> None:
        """Answer calls, and return when the connection has ended."""
        try:
            with suppress(EOFError, OSError):
                while True:
                    question = messages.receive(self._sock)
                    try:
                        asked = (question["number"], *self._understood(question))
                    except (NotDeclared, LookupError) as error:
                        self._say(question["number"], "error", rpc.encode_error(HookFailed(_told(error))))
                        continue
                    try:
                        _start(_Thread(target=self._answer, args=asked, name="vastgpu-hook", daemon=True))
                    except RuntimeError:  # no more threads can be started now
                        self._answer(*asked)
        finally:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # after any end, the other side awaits no more answers

    def _understood(self, question: Any) -> tuple[object, rpc.Call, list[Any]]:
        """Decode a call. Calls must be decoded in order: each observation's log builds on the one before."""
        if question["who"] == HOOKS:
            call = rpc.calls_of(HookCalls)[question["call"]]
            return self._hooks, call, call.arguments(question["arguments"])
        call = adapter_calls()[question["call"]]
        arguments = [
            replace(each.all_else, log=self._logs.unpack(each.log)) if isinstance(each, Seen) else each
            for each in call.arguments(question["arguments"])
        ]
        return self._adapters[question["who"]], call, arguments

    def _answer(self, number: int, who: object, call: rpc.Call, arguments: list[Any]) -> None:
        try:
            result = encode(getattr(who, call.name)(*arguments))
            decode(call.gives, result)  # a wrong value is reported here, where it comes from
            self._say(number, "result", result)
        except BaseException as error:  # noqa: BLE001 - the other side must learn of any error
            self._say(number, "error", rpc.encode_error(_failed(who, call, error)))

    def _say(self, number: int, kind: str, data: Any) -> None:
        """:raises messages.TooLarge: for an answer that cannot be sent."""
        with self._sending, suppress(OSError):  # the supervisor no longer waits
            messages.send(self._sock, {"number": number, kind: data}, self._largest)


def _failed(who: object, call: rpc.Call, error: BaseException) -> HookFailed:
    name = f"pytest_vastgpu_{call.name}" if isinstance(who, PytestHooks) else f"{type(who).__qualname__}.{call.name}"
    if isinstance(error, NotDeclared):
        return HookFailed(f"{name} gave something else than it is asked for: {error}")
    if isinstance(error, messages.TooLarge):
        return HookFailed(f"{name} gave an answer that is too large to be handed over: {error}")
    trace = ""
    with suppress(Exception):  # this reads the source file, and a test may have replaced the function that opens files
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        trace = "".join(traceback.format_list(frames)).rstrip()
    told = _told(error)
    return HookFailed(f"{name} raised {told}\n{trace}" if trace else f"{name}: {told}")


def _told(error: BaseException) -> str:
    try:
        text = str(error)[:LONGEST_TEXT]
    except BaseException as broken:  # noqa: BLE001 - an exception of other code can have any fault
        text = f"its text cannot be had ({type(broken).__name__})"
    return f"{type(error).__name__}: {text}".rstrip(": ")


class PytestHooks:
    """The hooks of pytest's plugins and conftest files. Implements :class:`HookCalls`.

    :param caller: ``config.hook``.
    """

    def __init__(self, caller: Any) -> None:
        self._caller = caller

    def modify_offers(self, offers: list[Offer], workload: Workload) -> list[int]:
        """See :class:`HookCalls`."""
        changed = list(offers)
        self._caller.pytest_vastgpu_modify_offers(offers=changed, workload=workload)
        return [offer.id for offer in changed]

    def outcome(self, attempt: Attempt, workload: Workload) -> None:
        """See :class:`HookCalls`."""
        self._caller.pytest_vastgpu_outcome(attempt=attempt, workload=workload)
