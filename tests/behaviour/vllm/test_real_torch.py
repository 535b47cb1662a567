"""The check of a host's speed with real PyTorch, on CPU, as vLLM's environment has it.

VASTGPU_VLLM=DIR pytest tests/behaviour/vllm/test_real_torch.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.hostcheck import gpu_speed

if "VASTGPU_VLLM" not in os.environ:
    pytest.skip("VASTGPU_VLLM does not name an environment with PyTorch, see .ci/vllm-cpu.sh", allow_module_level=True)
ON_CPU = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
import gpu_speed
torch.set_num_threads(1)
found = gpu_speed.measure(torch, "cpu", lambda: None, 1 << 20, 64)
found["loaded"] = gpu_speed.loaded(["echo", "hello"], found.pop("multiply"))
found["main"] = gpu_speed.main(["true"])
print(json.dumps(found))
"""


def test_real_pytorch_is_asked_for_what_it_has() -> None:
    command = [str(Path(os.environ["VASTGPU_VLLM"], "bin/python")), "-c", ON_CPU, str(Path(gpu_speed.__file__).parent)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(found["gb_s"]) == len(found["tflops"]) == gpu_speed.REPEATS
    assert min(*found["gb_s"], *found["tflops"]) > 0
    assert found["loaded"] == {"text": "hello\n", "code": 0}
    assert found["main"] == {"why": "PyTorch sees no GPU"}
