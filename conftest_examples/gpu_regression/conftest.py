from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vastgpu import Load
from pytest_vastgpu import Workload
from pytest_vastgpu import completions
from pytest_vastgpu import llamacpp
from pytest_vastgpu import vllm

TINY = Path(__file__).parents[1] / "quickstart" / "quickstart-30k.gguf"
MODEL = os.environ.get("GPU_REGRESSION_MODEL", "")
VLLM_MODEL = os.environ.get("VLLM_EXAMPLE_MODEL", "")
PYTHON = """\
# Python, which makes the load on the instance: llama.cpp's image has none. A minimal one lacks modules that it takes
python3 -c 'import concurrent.futures, http.client, json, zlib' 2>/dev/null ||
    { apt-get update -qq && apt-get install -y -qq python3; }
"""


@pytest.fixture
def served() -> Callable[..., Workload]:
    """llama.cpp with further arguments: a tiny model on any CPU, or the one that you have named on a GPU."""
    if MODEL:
        return lambda *args: llamacpp(MODEL, *args, ctx_size=8192, gpu_ram_gb=8, model_gb=1, setup=PYTHON)
    return lambda *args: llamacpp(TINY, "--threads", "1", "--parallel", "1", *args, gpus=0, disk_gb=8, setup=PYTHON)


@pytest.fixture
def load() -> Load:
    """Each prompt is another one, so that no cache answers it."""
    prompt = "{n} " + "Nothing is left running. " * (40 if MODEL else 4)
    model = MODEL or TINY.stem
    return completions(prompt, model=model, max_tokens=16, stream=False, warmup_s=0.3, temperature=0, ignore_eos=True)


@pytest.fixture
def served_by_vllm() -> Callable[..., Workload]:
    """The same of vLLM, with what the example ``vllm`` takes."""
    if not VLLM_MODEL:
        pytest.skip("VLLM_EXAMPLE_MODEL names no model")
    env = {"VLLM_NO_USAGE_STATS": "1", **({"HF_HUB_OFFLINE": "1"} if Path(VLLM_MODEL).is_dir() else {})}
    if os.environ.get("VLLM_EXAMPLE_CPU") == "1":
        few = ("--enforce-eager", "--gpu-memory-utilization=0.1")
        return lambda *args: vllm(VLLM_MODEL, *few, *args, gpus=0, disk_gb=8, image_gb=0, env=env)
    return lambda *args: vllm(
        VLLM_MODEL, "--max-model-len=2048", *args, gpu_ram_gb=8, compute_cap=8.0, model_gb=2.2, env=env
    )
