"""The supervisor's stand-ins for hooks and adapters that run in another process."""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
import struct
import threading
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import Protocol

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.callbacks import HOOKS
from pytest_vastgpu.client.callbacks import HookCalls
from pytest_vastgpu.client.callbacks import Seen
from pytest_vastgpu.client.callbacks import adapter_calls
from pytest_vastgpu.client.calls import AdapterOffer
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.log_delta import LogSender
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness


@dataclass
class _Question:
    answered: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    """None: no answer will come."""


class NoAnswer(HookFailed):
    """A hook or an adapter has not answered within the limit."""


class HookClient:
    """Calls hooks and adapters in another process. Thread-safe; each call waits for its own answer only.

    :param told_after_s: An answer that takes longer than this is reported.
    :param tell: Writes a line for people.
    :param within_s: Limit for an answer.
    """

    def __init__(
        self,
        told_after_s: float,
        tell: Callable[[str], None],
        within_s: float,
        largest: int = messages.LARGEST,
    ) -> None:
        self._largest = largest
        self._within_s = within_s
        self._told_after_s = told_after_s
        self._tell = tell
        self._sending = threading.Lock()
        """Keeps the order of logs between packing and sending. It guards nothing else: a send may take long."""
        self._changed = threading.Condition()
        """Its lock guards the fields below."""
        self._sock: socket.socket | None = None
        self._over = False
        self._questions: dict[int, _Question] = {}
        self._numbers = itertools.count(1)
        self._logs = LogSender()

    def attach(self, sock: socket.socket) -> None:
        """Send calls over this connection from now on; returns when the connection ends."""
        # A send to a process that does not read ends, too.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", math.ceil(self._within_s), 0))
        with self._changed:
            self._sock = sock
            self._changed.notify_all()
        try:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    answer = messages.receive(sock)
                    with self._changed:
                        question = self._questions.pop(answer["number"], None)
                    if question is not None:
                        question.answer = answer
                        question.answered.set()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End all waiting calls, and accept no more."""
        with self._changed:
            self._over = True
            questions, self._questions = self._questions, {}
            self._changed.notify_all()
            if self._sock is not None:
                with contextlib.suppress(OSError):  # the connection has ended
                    self._sock.shutdown(socket.SHUT_RDWR)  # ends a send to a process that does not read
        for question in questions.values():
            question.answered.set()

    def ask(self, who: str, call: rpc.Call, *arguments: Any) -> Any:
        """Make a call, and wait for the answer.

        :param who: :data:`HOOKS`, or an adapter's name.
        :raises HookFailed: if the hook or adapter has raised an exception, or does not answer.
        :raises Cancelled: the run is ending, or the process is.
        """
        question = _Question()
        with self._sending:
            with self._changed:
                self._changed.wait_for(lambda: self._sock is not None or self._over, self._within_s)
                if self._over or self._sock is None:
                    raise Cancelled
                sock, number = self._sock, next(self._numbers)
                self._questions[number] = question
            sent = [encode(self._packed(each)) for each in arguments]
            try:
                messages.send(sock, {"number": number, "who": who, "call": call.name, "arguments": sent}, self._largest)
            except OSError:
                raise Cancelled from None
            except messages.TooLarge as error:
                self._questions.pop(number, None)
                raise HookFailed(f"{_name(who, call)} cannot be asked: {error}") from None
        if not question.answered.wait(self._told_after_s):
            self._tell(
                f"{_name(who, call)} has not answered for {self._told_after_s:g} s, and is waited for: it runs in a "
                "thread of the pytest process, which may be busy or stopped"
            )
            if not question.answered.wait(max(0.0, self._within_s - self._told_after_s)):
                with self._changed:
                    self._questions.pop(number, None)
                raise NoAnswer(f"{_name(who, call)} has not answered within {self._within_s:g} s")
        if question.answer is None:
            raise Cancelled
        if "error" in question.answer:
            raise rpc.decode_error(question.answer["error"])
        return decode(call.gives, question.answer["result"])

    def _packed(self, argument: Any) -> Any:
        if isinstance(argument, Observation):
            return Seen(replace(argument, log=""), self._logs.pack(argument.log))
        if isinstance(argument, Workload):
            return replace(argument, image_login="")  # only the market needs it
        return argument


def _name(who: str, call: rpc.Call) -> str:
    return f"pytest_vastgpu_{call.name}" if who == HOOKS else f"{call.name}() of the adapter {who!r}"


class Asks(Protocol):
    """Makes calls: :class:`HookClient`, or :class:`~pytest_vastgpu.supervisor.adapter_process.AdapterProcess`."""

    def ask(self, who: str, call: rpc.Call, *arguments: Any) -> Any:
        """See :meth:`HookClient.ask`."""
        ...


class RemoteAdapter:
    """An adapter that runs in another process. Implements :class:`Adapter`."""

    def __init__(self, offer: AdapterOffer, client: Asks) -> None:
        self.name = offer.name
        self.default_image = offer.default_image
        self.warmup_s = offer.warmup_s
        self._client = client

    def _ask(self, name: str, *arguments: Any) -> Any:
        return self._client.ask(self.name, adapter_calls()[name], *arguments)

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """See :meth:`Adapter.launch`."""
        launch: Launch = self._ask("launch", workload, api_key)
        return launch

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        """See :meth:`Adapter.headers`."""
        headers: Mapping[str, str] = self._ask("headers", workload, api_key)
        return headers

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        """See :meth:`Adapter.probes`."""
        probes: tuple[Probe, ...] = self._ask("probes", workload)
        return probes

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """See :meth:`Adapter.assess`."""
        readiness: Readiness = self._ask("assess", workload, seen)
        return readiness


class RemoteHooks:
    """The hooks of a pytest process.

    :param implemented: Names of the hooks that have an implementation; others are not called.
    """

    def __init__(self, client: HookClient, implemented: frozenset[str]) -> None:
        self._client = client
        self._implemented = implemented

    def offers(self, offers: list[Offer], workload: Workload) -> list[Offer]:
        """The offers that the hooks leave, in their order."""
        if "pytest_vastgpu_modify_offers" not in self._implemented:
            return offers
        known = {offer.id: offer for offer in offers}
        ids = self._client.ask(HOOKS, rpc.calls_of(HookCalls)["modify_offers"], offers, workload)
        return [known[each] for each in ids if each in known]

    def outcome(self, attempt: Attempt, workload: Workload) -> None:
        """Call the outcome hooks."""
        if "pytest_vastgpu_outcome" in self._implemented:
            with contextlib.suppress(Cancelled):  # the pytest process is gone
                self._client.ask(HOOKS, rpc.calls_of(HookCalls)["outcome"], attempt, workload)
