"""A pytest process that has hooks and an adapter, and a supervisor that asks it, over a real connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_vastgpu.client.callbacks import HookServer
from pytest_vastgpu.client.callbacks import PytestHooks
from pytest_vastgpu.client.calls import AdapterOffer
from pytest_vastgpu.core import messages
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.supervisor.callbacks import HookClient
from pytest_vastgpu.supervisor.callbacks import RemoteAdapter
from pytest_vastgpu.supervisor.callbacks import RemoteHooks

WITHIN_S = 30.0
ALL_HOOKS = frozenset({"pytest_vastgpu_modify_offers", "pytest_vastgpu_outcome"})


class Mine:
    """An adapter of a conftest file; the tests decide what it does."""

    name = "mine"
    default_image = "an/image"
    warmup_s = 60.0

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.slow = threading.Event()
        """What ``launch`` waits for."""
        self.asked = threading.Semaphore(0)
        """Released by each ``launch``."""
        self.result: Any = Ready()
        self.error: BaseException | None = None

    def launch(self, workload: Workload, api_key: str) -> Launch:
        self.asked.release()
        self.slow.wait(WITHIN_S)
        return Launch(f"exec {workload.model}", {"KEY": api_key})

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        return {"Authorization": api_key}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        return (Probe("p", "true"),)

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        self.seen.append(seen)
        if self.error is not None:
            raise self.error
        result: Readiness = self.result
        return result


class Caller:
    """``config.hook``."""

    def __init__(self) -> None:
        self.modify: Callable[[list[Any], Workload], None] = lambda _offers, _workload: None
        self.outcomes: list[tuple[Attempt, Workload]] = []
        self.threads: list[int] = []

    def pytest_vastgpu_modify_offers(self, offers: list[Offer], workload: Workload) -> None:
        self.threads.append(threading.get_ident())
        self.modify(offers, workload)

    def pytest_vastgpu_outcome(self, attempt: Attempt, workload: Workload) -> None:
        self.outcomes.append((attempt, workload))


class Ends:
    """Both ends of a connection."""

    def __init__(
        self, told_after_s: float = WITHIN_S, largest: int = messages.LARGEST, within_s: float = WITHIN_S
    ) -> None:
        self.largest = largest
        self.adapter, self.caller = Mine(), Caller()
        self.told: list[str] = []
        self.told_now = threading.Event()
        self.theirs, self.ours = socket.socketpair()
        self.client = HookClient(told_after_s, self._tell, within_s, largest)
        offer = AdapterOffer("mine", "an/image", 60.0, "conftest.Mine")
        self.remote = RemoteHooks(self.client, ALL_HOOKS)
        self.mine = RemoteAdapter(offer, self.client)
        self.pool = ThreadPoolExecutor(20)
        self.attached: Future[None] | None = None

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self.told_now.set()

    def attach(self) -> None:
        self.attached = self.pool.submit(self.client.attach, self.ours)
        HookServer(self.theirs, PytestHooks(self.caller), {"mine": self.adapter}, self.largest).start()

    def close(self) -> None:
        self.adapter.slow.set()
        for sock in (self.theirs, self.ours):
            if sock.fileno() >= 0:
                sock.shutdown(socket.SHUT_RDWR)
        self.client.cancel()
        self.pool.shutdown()
        self.theirs.close()
        self.ours.close()


@pytest.fixture
def largest() -> int:
    """Bytes of the largest message."""
    return messages.LARGEST


@pytest.fixture
def ends(largest: int) -> Iterator[Ends]:
    ends = Ends(largest=largest)
    ends.attach()
    yield ends
    ends.close()


@pytest.fixture
def impatient() -> Iterator[Ends]:
    ends = Ends(told_after_s=0.02)
    yield ends
    ends.close()
