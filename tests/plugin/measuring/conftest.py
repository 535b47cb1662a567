"""Instances that do not exist."""

from __future__ import annotations

import pytest

from pytest_vastgpu.plugin import leases
from tests.support.benchmarked import Machines


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    notes = Machines()
    monkeypatch.setattr(leases, "_open", lambda *_, **__: notes)
    # Two runs of one test rent from what is no local market: there, machines have numbers.
    monkeypatch.setenv("VAST_API_KEY", "key-of-no-market")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SPEED", "40")
    return notes
