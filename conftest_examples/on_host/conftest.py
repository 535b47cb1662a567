"""What a test runs on: NumPy everywhere, PyTorch where it is installed, Triton where there is a GPU for it, too.

NumPy and PyTorch are imported by fixtures and not by test modules, so that the tests can be collected on a machine that
has neither: pytest does that once at home, before it rents.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest


def _need_torch() -> Any:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed here")
    import torch

    return torch


def _need_gpu() -> Any:
    torch = _need_torch()
    if not torch.cuda.is_available():
        pytest.skip("no GPU: torch.cuda.is_available() is False here")
    return torch


@pytest.fixture
def torch() -> Any:
    """PyTorch."""
    return _need_torch()


@pytest.fixture
def gpu() -> Any:
    """PyTorch, on a machine with a GPU."""
    return _need_gpu()


@pytest.fixture(params=["numpy", "torch", "triton"])
def softmax(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """An implementation of softmax: of a NumPy matrix, it makes one."""
    if request.param == "torch":
        torch = _need_torch()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return lambda x: torch.softmax(torch.from_numpy(x).to(device), dim=1).cpu().numpy()
    if request.param == "triton":
        torch = _need_gpu()
        from triton_softmax import softmax

        return lambda x: softmax(torch.from_numpy(x).cuda()).cpu().numpy()
    from reference import softmax

    return softmax
