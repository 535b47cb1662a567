from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import command

QUICKSTART = Path(__file__).parent.parent / "quickstart"


@pytest.fixture
def vast_workload() -> Workload:
    return command(
        "exec python3 model_server.py --port 8000",
        files={name: QUICKSTART / name for name in ("model_server.py", "weights.json")},
        ready_path="/health",
        model="quickstart-30k",
        gpus=0,
    )


@pytest.fixture
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
