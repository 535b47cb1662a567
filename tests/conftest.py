"""Every test gets a home of its own and no Vast variable of the person who runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings

# How long an example takes is the machine's affair, not a property of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("VAST_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call of this process waits for its turn; for markets that have their rate limits off."""
    from pytest_vastgpu.market import throttle

    monkeypatch.setattr(throttle, "INTERVALS_S", dict.fromkeys(throttle.INTERVALS_S, 0.0))
    monkeypatch.setattr(throttle, "MARGIN_S", 0.0)


@pytest.fixture
def home() -> Path:
    """The test's own home directory."""
    return Path(os.environ["HOME"])
