"""The marker ``vast``: from a test's marks to the workload it needs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Workload


def vast(
    workload: Workload | None = None,
    *,
    image: str | None = None,
    gpus: int | None = None,
    gpu_name: str | None = None,
    gpu_ram_gb: float | None = None,
    compute_cap: float | None = None,
    cuda: float | None = None,
    disk_gb: float | None = None,
    image_gb: float | None = None,
    model_gb: float | None = None,
    warmup_s: float | None = None,
    expected_use_s: float | None = None,
) -> tuple[Workload | None, dict[str, Any]]:
    """The marker's signature: a workload (None: the fixture ``vast_workload``), and what to change in it."""
    changes = {name: value for name, value in locals().items() if name != "workload" and value is not None}
    if workload is not None and not isinstance(workload, Workload):
        raise TypeError(f"its first argument is a Workload, such as vllm('org/model') makes; not {workload!r}")
    for name, value in changes.items():
        kind = str if name in {"image", "gpu_name"} else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r} is not {'text' if kind is str else 'a number'}")
        if not isinstance(value, str) and value < 0:
            raise TypeError(f"{name}={value!r} is below 0")
    return workload, changes


def marked(item: pytest.Item) -> tuple[Workload | None, dict[str, Any]]:
    """What the closest marker asks for; what it leaves open comes from the markers around it.

    :raises ConfigurationError: if a marker's arguments are wrong.
    """
    workload: Workload | None = None
    changes: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("vast"))):
        try:
            outer, more = vast(*mark.args, **mark.kwargs)
        except TypeError as wrong:
            text = str(wrong).replace("vast() ", "", 1)
            raise ConfigurationError(f"{item.nodeid}: marker vast: {text}{_known(mark.kwargs)}") from None
        workload, changes = (outer, more) if outer is not None else (workload, {**changes, **more})
    return workload, changes


def _known(keywords: Iterable[str]) -> str:
    names = list(inspect.signature(vast).parameters)
    return "" if set(keywords) <= set(names) else f"; the marker has {', '.join(names)}"
