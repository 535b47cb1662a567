"""The programs of an instance: those of this machine, changed by simulated GPUs and faults."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.local.container import gpu_tools
from pytest_vastgpu.local.faults import server_shim

if TYPE_CHECKING:
    from pytest_vastgpu.local.container.spec import ContainerSpec

_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWN = "bin"
_KEPT = "programs"
"""The directory of links to the remaining programs, for the fault ``tools_missing``."""


def install(spec: ContainerSpec) -> None:
    """Install the instance's own tools on its disk."""
    gpu_tools.install(spec.directory / _OWN, spec.gpus, spec.faults)
    if spec.faults.server:
        server_shim.install(spec.directory / _OWN, spec.faults.server)
    if missing := (*spec.faults.tools_missing, *spec.faults.session_tools_missing):
        _link_others(missing, spec)


def image_path(spec: ContainerSpec) -> str:
    """Return the ``PATH`` of the first process, which is the image's."""
    if spec.faults.tools_missing:
        return session_path(spec)
    return os.pathsep.join([*_own(spec), _beside_python(spec.hides), _SYSTEM])


def session_path(spec: ContainerSpec) -> str:
    """Return the ``PATH`` of sessions over SSH, which do not have the image's."""
    kept = spec.faults.tools_missing or spec.faults.session_tools_missing
    return os.pathsep.join([*_own(spec), str(spec.directory / _KEPT) if kept else _SYSTEM])


def login_path(spec: ContainerSpec) -> str:
    """Return the ``PATH`` for a login shell's profile, as shell text: the system's profile replaces the ``PATH``."""
    if spec.faults.tools_missing or spec.faults.session_tools_missing:
        return session_path(spec)
    return os.pathsep.join([*_own(spec), "$PATH"])


def _own(spec: ContainerSpec) -> list[str]:
    needed = gpu_tools.needed(spec.gpus, spec.faults) or spec.faults.server
    return [str(spec.directory / _OWN)] if needed else []


def _beside_python(hides: Sequence[str]) -> str:
    """The directory of the market's own Python; where that is hidden, of the one that its venv was made with."""
    own = Path(sys.executable).parent
    hidden = any(own.resolve().is_relative_to(Path(each).resolve()) for each in hides)
    return str(Path(sys.base_prefix, "bin") if hidden else own)


def _link_others(missing: Sequence[str], spec: ContainerSpec) -> None:
    """Link every program in the ``PATH``, except those with a missing name. By their paths all still exist."""
    kept = spec.directory / _KEPT
    if kept.exists():  # from an earlier start on the same disk
        return
    kept.mkdir()
    for directory in [_beside_python(spec.hides), *_SYSTEM.split(os.pathsep)]:
        for program in Path(directory).glob("*"):
            link = kept / program.name
            if not link.is_symlink() and not any(fnmatchcase(program.name, each) for each in missing):
                link.symlink_to(program)
