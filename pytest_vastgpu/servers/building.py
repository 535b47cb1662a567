"""Builds a workload from the arguments of a builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.files import local_files
from pytest_vastgpu.servers.workloads import TYPES
from pytest_vastgpu.servers.workloads import checked
from pytest_vastgpu.servers.workloads import mapping
from pytest_vastgpu.servers.workloads import require_known

FURTHER_PORTS = "further_ports"
"""The detail with the TCP ports that a server listens on besides the workload's own, with spaces between."""


def build(
    adapter: str,
    *,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str | Path] | None = None,
    details: Mapping[str, str] | None = None,
    **values: Any,
) -> Workload:
    """The workload for an adapter, checked.

    :param env: Environment of the server.
    :param files: Local files and directories, by their path in the server's working directory.
    :param details: What only this adapter knows of; those that are empty are left out.
    :param values: Other fields of :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a name
        that is no field and for a field that has a wrong value: one line, which field, its value, what is expected.
    """
    require_known(adapter, values.keys() - TYPES.keys())
    return checked(
        Workload(
            adapter=adapter,
            env=tuple(sorted(mapping("env", env, "{'NAME': 'value'}").items(), key=str)),
            files=local_files(files),
            details=tuple(sorted((name, value) for name, value in (details or {}).items() if value)),
            **values,
        )
    )


def requiring(workload: Workload, *, cuda: float, compute_cap: float) -> Workload:
    """The workload with what its adapter's own image requires of a GPU, unless it says so itself.

    Nothing is required by an image of the workload's own, which may need other things, and without a GPU.
    """
    if workload.image or workload.gpus == 0:
        return workload
    return replace(workload, compute_cap=workload.compute_cap or compute_cap, cuda=workload.cuda or cuda)


def ports_of(workload: Workload) -> frozenset[int]:
    """All TCP ports on which its server is known to listen."""
    further = detail(workload, FURTHER_PORTS).split()
    return frozenset({workload.port, *(int(each) for each in further if each.isdecimal())})


def detail(workload: Workload, name: str) -> str:
    """One of the workload's details; empty where it has none of this name."""
    return dict(workload.details).get(name, "")
