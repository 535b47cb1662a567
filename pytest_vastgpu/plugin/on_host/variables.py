"""The environment variables that tests on a host find there as they are here. All others are the host's own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.core.text.shell import exports
from pytest_vastgpu.core.text.shell import wrong_name
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host.places import Places

_OF_THIS_PROCESS = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_", "PYTEST_DEBUG_TEMPROOT")
"""How the names of those begin that say something of this process, or this machine, only."""
_READ_BY_PYTEST = ("CI", "BUILD_NUMBER", "PY_COLORS", "NO_COLOR", "FORCE_COLOR")
"""What pytest itself looks at, without its name in front: how much of a difference is shown, and in colour."""


def carried(environ: Mapping[str, str], places: Places) -> dict[str, str]:
    """The variables for a worker: pytest's own, with the host's paths.

    :param environ: The environment of this process.
    """
    names = [
        name
        for name in environ
        if name in _READ_BY_PYTEST or (name.startswith("PYTEST_") and not name.startswith(_OF_THIS_PROCESS))
    ]
    found = {name: places.on_host(environ[name]) for name in names}
    if options := environ.get("PYTEST_ADDOPTS"):
        found["PYTEST_ADDOPTS"] = shlex.join(places.on_host(each) for each in shlex.split(options))
    return found


def passed(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``--vast-pass-env``. Their values may be secret.

    :raises ConfigurationError: one line: which is not set, or no name of a variable.
    """
    for name in names:
        if wrong := wrong_name(name):
            raise ConfigurationError(f"--vast-pass-env: {wrong}: say the name alone, its value is the one here")
        if name not in environ:
            raise ConfigurationError(f"--vast-pass-env: {name} is not set here: set it, or leave it out")
    return {name: environ[name] for name in names}


def hash_seed(environ: Mapping[str, str]) -> str:
    """Shell text that goes before the start of Python on a host, so that its sets are in the same order as here.

    A Python reads it when it starts. All workers have to collect in the same order, which may depend on it.
    """
    seed = environ.get("PYTHONHASHSEED", "")
    return exports({"PYTHONHASHSEED": seed}) if seed else ""


def python_path(environ: Mapping[str, str]) -> list[str]:
    """The directories of ``PYTHONPATH``."""
    return [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
