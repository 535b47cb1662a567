"""The calls of PyTorch that measure a GPU, for an instance whose GPUs are simulated: it is copied there as ``torch``.

Work takes the time that a GPU of that speed would need; nothing is computed.
"""

from __future__ import annotations

import atexit
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
LOAD = Path.home() / ".gpu-load"
"""See :data:`pytest_vastgpu.local.container.simulated_gpus.LOAD`."""
TFLOPS = 60.0
"""Single precision of each."""

uint8 = "uint8"
_owed_s = 0.0


def _gpus() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((HERE / "gpus.json").read_text())["gpus"]
    return found


def _work(seconds: float) -> None:
    global _owed_s
    _owed_s += seconds


def _wait(_device: object = None) -> None:
    global _owed_s
    time.sleep(_owed_s)
    _owed_s = 0.0


class Tensor:
    """Bytes on a GPU, that are not there."""

    def __init__(self, *shape: int, dtype: object = None, device: str = "cuda:0") -> None:
        self.shape = shape
        self.gb_s = float(_gpus()[int(device.rpartition(":")[2])]["memory_gb_s"])

    def copy_(self, _source: Tensor) -> Tensor:
        """Read as many bytes as are written."""
        _work(2 * self.shape[0] / 1e9 / self.gb_s)
        return self


def mm(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Multiply two square matrices."""
    _work(2 * left.shape[0] ** 3 / 1e12 / TFLOPS)
    return out


empty = ones = Tensor
cuda = SimpleNamespace(
    is_available=lambda: True,
    device_count=lambda: len(_gpus()),
    mem_get_info=lambda _device: (20 << 30, 24 << 30),
    synchronize=_wait,
)
backends = SimpleNamespace(cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False)))
LOAD.write_text("100")  # whoever loads PyTorch uses the GPU
atexit.register(lambda: LOAD.unlink(missing_ok=True))
