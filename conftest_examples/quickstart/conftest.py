from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import llamacpp

MODEL = Path(__file__).with_name("quickstart-30k.gguf")


@pytest.fixture
def vast_workload() -> Workload:
    """What every test here needs, unless a marker says otherwise."""
    return llamacpp(MODEL, gpus=0, disk_gb=8)
