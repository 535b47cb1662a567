"""The pool in memory, for tests of all that is done with its instances."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.pool.test_pool import Scene
from tests.support.memory import Script


@pytest.fixture
def scene_of(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def scene_of(*scripts: Script) -> Scene:
        scenes.append(Scene(tmp_path, *scripts))
        return scenes[-1]

    yield scene_of
    for scene in scenes:
        scene.pool.close()
        assert scene.life.provider.instances == {}
