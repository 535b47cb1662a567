"""Hooks and adapters that live in another process, as the supervisor sees them."""

from __future__ import annotations

import contextlib
import itertools
import socket
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
    """None: nobody will answer."""


class HookClient:
    """Asks another process. Any thread may; each waits for its own answer, for as long as that takes.

    :param told_after_s: An answer that is not there after so many seconds is told of.
    :param tell: Writes a line for people.
    """

    def __init__(self, told_after_s: float, tell: Callable[[str], None]) -> None:
        self._told_after_s = told_after_s
        self._tell = tell
        self._sending = threading.Lock()
        """Logs are sent in the order in which they are packed. Nothing else waits for it: a send may take long."""
        self._changed = threading.Condition()
        """Its lock guards what follows."""
        self._sock: socket.socket | None = None
        self._over = False
        self._questions: dict[int, _Question] = {}
        self._numbers = itertools.count(1)
        self._logs = LogSender()

    def attach(self, sock: socket.socket) -> None:
        """Ask over this connection from now on; returns when it is over."""
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
        """Nobody waits for an answer any more."""
        with self._changed:
            self._over = True
            questions, self._questions = self._questions, {}
            self._changed.notify_all()
            if self._sock is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._sock.shutdown(socket.SHUT_RDWR)  # ends a send to a process that takes nothing
        for question in questions.values():
            question.answered.set()

    def ask(self, who: str, call: rpc.Call, *arguments: Any) -> Any:
        """Ask, and wait for the answer.

        :param who: :data:`HOOKS`, or an adapter's name.
        :raises HookFailed: what was raised there.
        :raises Cancelled: the run is ending, or the process is.
        """
        question = _Question()
        with self._sending:
            with self._changed:
                self._changed.wait_for(lambda: self._sock is not None or self._over)
                if self._over or self._sock is None:
                    raise Cancelled
                sock, number = self._sock, next(self._numbers)
                self._questions[number] = question
            sent = [encode(self._packed(each)) for each in arguments]
            try:
                messages.send(sock, {"number": number, "who": who, "call": call.name, "arguments": sent})
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
            question.answered.wait()
        if question.answer is None:
            raise Cancelled
        if "error" in question.answer:
            raise rpc.decode_error(question.answer["error"])
        return decode(call.gives, question.answer["result"])

    def _packed(self, argument: Any) -> Any:
        if isinstance(argument, Observation):
            return Seen(replace(argument, log=""), self._logs.pack(argument.log))
        return argument


def _name(who: str, call: rpc.Call) -> str:
    return f"pytest_vastgpu_{call.name}" if who == HOOKS else f"{call.name}() of the adapter {who!r}"


class Asks(Protocol):
    """Somebody who can be asked: :class:`HookClient`, or the judge."""

    def ask(self, who: str, call: rpc.Call, *arguments: Any) -> Any:
        """See :meth:`HookClient.ask`."""
        ...


class RemoteAdapter:
    """An adapter of another process. Implements :class:`Adapter`."""

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
    """The hooks of the process that started us. Implements :class:`~pytest_vastgpu.supervisor.run.Plugins`.

    :param implemented: Names of hooks that somebody implements; others are not asked.
    """

    def __init__(self, client: HookClient, implemented: frozenset[str]) -> None:
        self._client = client
        self._implemented = implemented

    def offers(self, offers: list[Offer], workload: Workload) -> list[Offer]:
        """The offers as the hooks left them."""
        if "pytest_vastgpu_modify_offers" not in self._implemented:
            return offers
        known = {offer.id: offer for offer in offers}
        ids = self._client.ask(HOOKS, rpc.calls_of(HookCalls)["modify_offers"], offers, workload)
        return [known[each] for each in ids if each in known]

    def outcome(self, attempt: Attempt, workload: Workload) -> None:
        """Tell everybody."""
        if "pytest_vastgpu_outcome" in self._implemented:
            with contextlib.suppress(Cancelled):  # whoever would hear of it is gone
                self._client.ask(HOOKS, rpc.calls_of(HookCalls)["outcome"], attempt, workload)
