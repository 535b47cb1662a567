from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import vllm

MODEL = os.environ.get("VLLM_EXAMPLE_MODEL", "TinyLlama/TinyLlama-1.1B-Chat-v1.0")
CPU = os.environ.get("VLLM_EXAMPLE_CPU") == "1"


@pytest.fixture
def vast_workload() -> Workload:
    env = {"VLLM_NO_USAGE_STATS": "1", **({"HF_HUB_OFFLINE": "1"} if Path(MODEL).is_dir() else {})}
    if CPU:
        # Eager mode saves half a minute of compiling; the share is of the machine's RAM, which others use too.
        return vllm(MODEL, "--enforce-eager", "--gpu-memory-utilization=0.1", gpus=0, disk_gb=8, image_gb=0, env=env)
    # The model's weights are bfloat16, which GPUs older than 8.0 do not compute with.
    return vllm(MODEL, "--max-model-len=2048", gpu_ram_gb=8, compute_cap=8.0, model_gb=2.2, env=env)
