"""Rent a GPU host for the tests that need one.

Public names are loaded when they are first used, so that a test run that rents nothing pays for none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from pytest_vastgpu.lifecycle.instance import VastInstance
    from pytest_vastgpu.local.embed import LocalMarket
    from pytest_vastgpu.model import Attempt
    from pytest_vastgpu.model import FailureClass
    from pytest_vastgpu.model import Offer
    from pytest_vastgpu.model import Probe
    from pytest_vastgpu.model import ProbeResult
    from pytest_vastgpu.model import Progress
    from pytest_vastgpu.model import Verdict
    from pytest_vastgpu.model import Workload
    from pytest_vastgpu.readiness.adapter import Adapter
    from pytest_vastgpu.readiness.adapter import Failed
    from pytest_vastgpu.readiness.adapter import Launch
    from pytest_vastgpu.readiness.adapter import Observation
    from pytest_vastgpu.readiness.adapter import Readiness
    from pytest_vastgpu.readiness.adapter import Ready
    from pytest_vastgpu.readiness.adapter import Warming
    from pytest_vastgpu.readiness.command import command
    from pytest_vastgpu.readiness.vllm import vllm

_HOMES = {
    "Adapter": "readiness.adapter",
    "Attempt": "model",
    "Failed": "readiness.adapter",
    "FailureClass": "model",
    "Launch": "readiness.adapter",
    "LocalMarket": "local.embed",
    "Observation": "readiness.adapter",
    "Offer": "model",
    "Probe": "model",
    "ProbeResult": "model",
    "Progress": "model",
    "Readiness": "readiness.adapter",
    "Ready": "readiness.adapter",
    "VastInstance": "lifecycle.instance",
    "Verdict": "model",
    "Warming": "readiness.adapter",
    "Workload": "model",
    "command": "readiness.command",
    "vllm": "readiness.vllm",
}

__all__ = [
    "Adapter",
    "Attempt",
    "Failed",
    "FailureClass",
    "Launch",
    "LocalMarket",
    "Observation",
    "Offer",
    "Probe",
    "ProbeResult",
    "Progress",
    "Readiness",
    "Ready",
    "VastInstance",
    "Verdict",
    "Warming",
    "Workload",
    "command",
    "vllm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
