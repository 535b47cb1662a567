"""The thread that looks at prices; what it sees is tested with whole runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from pytest_vastgpu.supervisor.pool.price_monitor import PriceMonitor
from pytest_vastgpu.supervisor.rental.rental import Rental

WITHIN_S = 30.0


def test_a_look_that_fails_is_told_and_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    looked = threading.Semaphore(0)

    def alive() -> Iterable[Rental]:
        looked.release()
        raise ZeroDivisionError

    watch = PriceMonitor(list, alive, lambda _: None, lambda _: None, 0.01)
    try:
        assert all(looked.acquire(timeout=WITHIN_S) for _ in range(3))
    finally:
        watch.close()
    assert "the prices could not be looked at" in caplog.text
