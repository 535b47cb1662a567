from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle
from tests.providers.vast.scripted import ScriptedServer
from tests.providers.vast.scripted import scripted_server

KEY = "0123456789abcdef-secret"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture
def waited() -> list[float]:
    """Every pause that the client made of its own accord; none of them takes time here."""
    return []


@pytest.fixture
def client(server: ScriptedServer, waited: list[float], tmp_path: Path) -> Iterator[MarketClient]:
    throttle = Throttle(tmp_path / "throttle", "tests", wait=lambda _seconds: None)
    with MarketClient(server.url, KEY, throttle, timeout_s=60, wait=waited.append) as client:
        yield client
