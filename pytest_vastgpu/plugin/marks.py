"""The marker ``vast``: reads a test's marks and computes the workload it needs."""

from __future__ import annotations

from typing import Any
from typing import Unpack

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers.workloads import BY_NAME
from pytest_vastgpu.servers.workloads import TYPES
from pytest_vastgpu.servers.workloads import require_known
from pytest_vastgpu.servers.workloads import shown


def vast(workload: Workload | None = None, **changes: Unpack[WorkloadFields]) -> tuple[Workload | None, dict[str, Any]]:
    """The marker's signature: a workload (None: the fixture ``vast_workload``), and the fields to change in it."""
    if workload is not None and not isinstance(workload, Workload):
        raise TypeError(f"its first argument is a Workload, such as vllm('org/model') makes; not {workload!r}")
    require_known("vast", changes, ("workload",))
    given = {name: value for name, value in changes.items() if value is not None}
    for name, value in given.items():
        kind = str if TYPES[name] is str else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{shown(name, value)} is not {'text' if kind is str else 'a number'}")
        if isinstance(value, (int, float)) and value < 0:
            raise TypeError(f"{name}={value!r} is below 0")
    return workload, given


def help_line() -> str:
    """The text that ``pytest --markers`` shows."""
    return (
        f"vast(workload=None, *, {', '.join(BY_NAME)}): what the test needs rented; without a workload it changes that "
        "of the fixture vast_workload"
    )


def marked(item: pytest.Item) -> tuple[Workload | None, dict[str, Any]]:
    """The closest marker's workload and changes; outer markers supply what the closest one does not set.

    :raises ConfigurationError: if a marker's arguments are wrong.
    """
    workload: Workload | None = None
    changes: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("vast"))):
        try:
            outer, more = vast(*mark.args, **mark.kwargs)
        except TypeError as wrong:
            text = str(wrong).replace("vast() ", "", 1)
            raise ConfigurationError(f"{item.nodeid}: marker vast: {text}") from None
        workload, changes = (outer, more) if outer is not None else (workload, {**changes, **more})
    return workload, changes
