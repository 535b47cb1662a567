"""A cache in a directory that is not there yet, and what it tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome

NOW = 1_900_000_000.0


def item(name: str, machine: int = 1) -> Outcome:
    return Outcome(name, NOW, machine, FailureClass.INFRA_FATAL, 7, "RTX 4090", "nvml", "w", {"booting": 1.5}, "run")


class Told(list[str]):
    """What the cache told."""

    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def cache(tmp_path: Path, told: Told) -> HostCache:
    return HostCache(tmp_path / "made" / "on demand" / "hosts.yaml", tell=told)


def asides(cache: HostCache) -> list[Path]:
    return sorted(path for path in cache.path.parent.iterdir() if ".damaged-" in path.name)


def names(cache: HostCache) -> set[str]:
    return set(HostCache(cache.path, tell=Told()).book().evidence)
