"""Several instances at once: all or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.rpc_server import Caller
from pytest_vastgpu.supervisor.session import Session
from tests.support.looks import until

GOOD, SLOW, BAD = (Workload("command", model=name) for name in ("good", "slow", "bad"))


class Pool:
    """What a session asks: good ones are ready at once, slow ones only when all were asked for, bad ones never."""

    def __init__(self, asks: int) -> None:
        self.released: list[str] = []
        self._all = threading.Barrier(asks)
        self._got = threading.Event()

    def acquire(
        self, run: str, test: str, workload: Workload, exclusive: bool, process: str, gone: Callable[[], bool]
    ) -> str:
        assert (run, test, exclusive, process) == ("a run", "a test", True, "a process")
        self._all.wait(30)  # none is asked for after another one
        if workload is BAD:
            assert self._got.wait(30)
            raise ProvisioningFailed("no machine", ())
        if workload is SLOW:
            until(gone, bool)
            raise Cancelled
        self._got.set()
        return f"label {workload.model}"

    def release(self, label: str) -> None:
        self.released.append(label)


def session(pool: Pool, gone: Callable[[], bool] = lambda: False) -> Session:
    run = SimpleNamespace(pool=pool, access=SimpleNamespace(lease=lambda label: f"lease of {label}"))
    return Session(cast(Any, SimpleNamespace(id="a run", run=lambda: run)), Caller("a process", gone))


def test_all_are_asked_for_at_the_same_time() -> None:
    leases = session(pool := Pool(3)).acquire_several("a test", [GOOD, GOOD, GOOD])
    assert cast(Any, leases) == ["lease of label good"] * 3
    assert pool.released == []


def test_a_failure_of_one_gives_back_the_others_and_ends_their_waiting() -> None:
    pool = Pool(3)
    with pytest.raises(ProvisioningFailed, match="no machine"):
        session(pool).acquire_several("a test", [GOOD, SLOW, BAD])
    assert pool.released == ["label good"]


def test_a_test_that_is_interrupted_while_it_waits_gets_none() -> None:
    pool = Pool(2)
    with pytest.raises(Cancelled):
        session(pool, gone=lambda: True).acquire_several("a test", [GOOD, SLOW])
    assert pool.released == ["label good"]
