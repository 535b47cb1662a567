"""Rent a GPU host for the tests that need one.

Public names are loaded at their first use, so that a test run that rents nothing does not load them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from pytest_vastgpu.client.instance import InstanceFactory
    from pytest_vastgpu.client.instance import VastInstance
    from pytest_vastgpu.errors import ConfigurationError
    from pytest_vastgpu.errors import MeasurementFailed
    from pytest_vastgpu.errors import VastGpuError
    from pytest_vastgpu.errors import WorkloadInvalid
    from pytest_vastgpu.local.embed import LocalMarket
    from pytest_vastgpu.measuring.load import Load
    from pytest_vastgpu.measuring.load import chat
    from pytest_vastgpu.measuring.load import completions
    from pytest_vastgpu.measuring.load import http_load
    from pytest_vastgpu.measuring.load import kserve
    from pytest_vastgpu.measuring.load import shell
    from pytest_vastgpu.measuring.measurement import Measurement
    from pytest_vastgpu.model import Attempt
    from pytest_vastgpu.model import FailureClass
    from pytest_vastgpu.model import Offer
    from pytest_vastgpu.model import Probe
    from pytest_vastgpu.model import ProbeFailure
    from pytest_vastgpu.model import ProbeResult
    from pytest_vastgpu.model import Progress
    from pytest_vastgpu.model import Verdict
    from pytest_vastgpu.model import Workload
    from pytest_vastgpu.model import WorkloadFields
    from pytest_vastgpu.plugin.measuring.benchmark import Benchmark
    from pytest_vastgpu.plugin.measuring.compare import Compare
    from pytest_vastgpu.plugin.measuring.compare import Comparison
    from pytest_vastgpu.plugin.measuring.compare import VastBenchmarkWarning
    from pytest_vastgpu.plugin.unasked import VastMarkUnusedWarning
    from pytest_vastgpu.servers.base import Adapter
    from pytest_vastgpu.servers.base import Failed
    from pytest_vastgpu.servers.base import Launch
    from pytest_vastgpu.servers.base import Observation
    from pytest_vastgpu.servers.base import Readiness
    from pytest_vastgpu.servers.base import Ready
    from pytest_vastgpu.servers.base import Warming
    from pytest_vastgpu.servers.building import build
    from pytest_vastgpu.servers.building import detail
    from pytest_vastgpu.servers.command import command
    from pytest_vastgpu.servers.http_probe import Answer
    from pytest_vastgpu.servers.http_server import HttpServer
    from pytest_vastgpu.servers.llamacpp import llamacpp
    from pytest_vastgpu.servers.ollama import ollama
    from pytest_vastgpu.servers.openai_server import openai_server
    from pytest_vastgpu.servers.questions import Question
    from pytest_vastgpu.servers.sglang import sglang
    from pytest_vastgpu.servers.triton import triton
    from pytest_vastgpu.servers.vllm import vllm
    from pytest_vastgpu.servers.workloads import builder

_HOMES = {
    "Adapter": "servers.base",
    "Answer": "servers.http_probe",
    "Attempt": "model",
    "Benchmark": "plugin.measuring.benchmark",
    "Compare": "plugin.measuring.compare",
    "Comparison": "plugin.measuring.compare",
    "ConfigurationError": "errors",
    "Failed": "servers.base",
    "FailureClass": "model",
    "HttpServer": "servers.http_server",
    "InstanceFactory": "client.instance",
    "Launch": "servers.base",
    "Load": "measuring.load",
    "LocalMarket": "local.embed",
    "Measurement": "measuring.measurement",
    "MeasurementFailed": "errors",
    "Observation": "servers.base",
    "Offer": "model",
    "Probe": "model",
    "ProbeFailure": "model",
    "ProbeResult": "model",
    "Progress": "model",
    "Question": "servers.questions",
    "Readiness": "servers.base",
    "Ready": "servers.base",
    "VastBenchmarkWarning": "plugin.measuring.compare",
    "VastGpuError": "errors",
    "VastInstance": "client.instance",
    "VastMarkUnusedWarning": "plugin.unasked",
    "Verdict": "model",
    "Warming": "servers.base",
    "Workload": "model",
    "WorkloadFields": "model",
    "WorkloadInvalid": "errors",
    "build": "servers.building",
    "builder": "servers.workloads",
    "chat": "measuring.load",
    "command": "servers.command",
    "completions": "measuring.load",
    "detail": "servers.building",
    "http_load": "measuring.load",
    "kserve": "measuring.load",
    "llamacpp": "servers.llamacpp",
    "ollama": "servers.ollama",
    "openai_server": "servers.openai_server",
    "sglang": "servers.sglang",
    "shell": "measuring.load",
    "triton": "servers.triton",
    "vllm": "servers.vllm",
}

__all__ = [
    "Adapter",
    "Answer",
    "Attempt",
    "Benchmark",
    "Compare",
    "Comparison",
    "ConfigurationError",
    "Failed",
    "FailureClass",
    "HttpServer",
    "InstanceFactory",
    "Launch",
    "Load",
    "LocalMarket",
    "Measurement",
    "MeasurementFailed",
    "Observation",
    "Offer",
    "Probe",
    "ProbeFailure",
    "ProbeResult",
    "Progress",
    "Question",
    "Readiness",
    "Ready",
    "VastBenchmarkWarning",
    "VastGpuError",
    "VastInstance",
    "VastMarkUnusedWarning",
    "Verdict",
    "Warming",
    "Workload",
    "WorkloadFields",
    "WorkloadInvalid",
    "build",
    "builder",
    "chat",
    "command",
    "completions",
    "detail",
    "http_load",
    "kserve",
    "llamacpp",
    "ollama",
    "openai_server",
    "sglang",
    "shell",
    "triton",
    "vllm",
]


_EACH_RUN = (
    *("core", "core.environment", "option_values", "settings"),
    *("plugin", "plugin.options", "plugin.hookspecs", "plugin.hooks"),
)
"""The modules that pytest's entry point loads, each after those that it imports."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "pytest_plugin":  # the entry point
        for module in _EACH_RUN:
            _load(f"{__name__}.{module}")
        return sys.modules[f"{__name__}.{_EACH_RUN[-1]}"]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def _load(name: str) -> None:
    """Load a module in the way Python loads any other.

    With an import statement pytest would load it: pytest rewrites the assertions in all modules of a plugin. These
    modules have no assertions, and the rewriting takes many times as long.
    """
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    parent, _, own_name = name.rpartition(".")
    package = sys.modules[parent]
    spec = PathFinder.find_spec(name, package.__path__)
    if name not in sys.modules and spec is not None and spec.loader is not None:
        module = sys.modules[name] = module_from_spec(spec)
        setattr(package, own_name, module)
        spec.loader.exec_module(module)
