"""What takes time of hosts, in threads of its own."""

from __future__ import annotations

import contextlib
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu.plugin.on_host.fleet import Fleet

DEFECT = RuntimeError("can't start new thread")


def fails(*_: object) -> None:
    raise DEFECT


@pytest.mark.parametrize("what", ["rent", "start", "look"])
def test_a_defect_in_a_thread_is_told_and_nobody_waits_for_ever(what: str) -> None:
    told: Queue[tuple[str, dict[str, Any]]] = Queue()
    leases: Any = SimpleNamespace(done=fails)
    rented: Any = SimpleNamespace(
        gateways=SimpleNamespace(start=fails, answers=fails), looking=contextlib.nullcontext(), ending=None
    )
    fleet = Fleet(leases, SimpleNamespace(), {"host 1": SimpleNamespace()}, 1, told.put)  # type: ignore[arg-type, dict-item]
    try:
        begin = {
            "rent": lambda: fleet.rent("host 1"),
            "start": lambda: fleet.start(rented, 1),
            "look": lambda: fleet.look(rented, None, None),
        }
        begin[what]()
        assert told.get(timeout=60) == ("threadfailed", {"error": DEFECT})
    finally:
        fleet.remove()
