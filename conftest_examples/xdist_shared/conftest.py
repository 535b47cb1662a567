from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import llamacpp

MODEL = Path(__file__).parent.parent / "quickstart/quickstart-30k.gguf"


@pytest.fixture
def vast_workload() -> Workload:
    return llamacpp(MODEL, gpus=0, disk_gb=8)


@pytest.fixture
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
