"""The programs that an instance finds: this machine's, with what its GPUs and faults put before or take out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.local.container import simulated_gpus
from pytest_vastgpu.local.faults import server_shim

if TYPE_CHECKING:
    from pytest_vastgpu.local.container.spec import ContainerSpec

_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWN = "bin"
_KEPT = "programs"
"""Links to what is left where some programs are missing."""


def install(spec: ContainerSpec) -> None:
    """Write the instance's own tools to its disk."""
    simulated_gpus.install(spec.directory / _OWN, spec.gpus, spec.faults)
    if spec.faults.server:
        server_shim.install(spec.directory / _OWN, spec.faults.server)
    if spec.faults.tools_missing:
        _link_others(spec.faults.tools_missing, spec.directory / _KEPT)


def search_path(spec: ContainerSpec) -> str:
    """``PATH`` of every process of the instance."""
    if spec.faults.tools_missing:
        return os.pathsep.join([*_own(spec), str(spec.directory / _KEPT)])
    return os.pathsep.join([*_own(spec), _beside_python(), _SYSTEM])


def login_path(spec: ContainerSpec) -> str:
    """``PATH`` for a login shell's profile, in its words: the system's profile has set one anew before."""
    if spec.faults.tools_missing:
        return search_path(spec)
    return os.pathsep.join([*_own(spec), _beside_python(), "$PATH"])


def _own(spec: ContainerSpec) -> list[str]:
    needed = simulated_gpus.needed(spec.gpus, spec.faults) or spec.faults.server
    return [str(spec.directory / _OWN)] if needed else []


def _beside_python() -> str:
    return str(Path(sys.executable).parent)


def _link_others(missing: Sequence[str], kept: Path) -> None:
    """Links to every program that would be found, but for those with such a name. By its path each is still there."""
    if kept.exists():  # the disk is kept over a stop
        return
    kept.mkdir()
    for directory in [_beside_python(), *_SYSTEM.split(os.pathsep)]:
        for program in Path(directory).glob("*"):
            link = kept / program.name
            if not link.is_symlink() and not any(fnmatchcase(program.name, each) for each in missing):
                link.symlink_to(program)
