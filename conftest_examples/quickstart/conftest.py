from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import command

HERE = Path(__file__).parent


@pytest.fixture
def vast_workload() -> Workload:
    """What every test here needs, unless a marker says otherwise."""
    return command(
        "exec python3 model_server.py --port 8000",
        files={name: HERE / name for name in ("model_server.py", "weights.json")},
        port=8000,
        ready_path="/health",
        model="quickstart-30k",
        gpus=0,
    )
