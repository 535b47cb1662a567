from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from search_adapter import HERE
from search_adapter import SearchAdapter
from search_adapter import search

if TYPE_CHECKING:
    from pytest_vastgpu import Adapter
    from pytest_vastgpu import Workload


def pytest_vastgpu_adapters() -> list[Adapter]:
    """Teaches the plugin one more kind of server."""
    return [SearchAdapter()]


@pytest.fixture
def vast_workload() -> Workload:
    return search(HERE / "documents.txt")
