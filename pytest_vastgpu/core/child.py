"""Starts modules of this package as processes, from this installation, whatever the working directory contains."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_BOOT = """
import gc, json, sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
home, module, paths = json.loads(sys.argv.pop(1))
sys.path += [path for path in paths if path not in sys.path]
spec = spec_from_file_location("pytest_vastgpu", home + "/__init__.py", submodule_search_locations=[home])
package = sys.modules[spec.name] = module_from_spec(spec)
spec.loader.exec_module(package)
code = import_module(module).main()
gc.freeze()
sys.exit(code)
"""
"""The package's own import path comes last, so that no module of a test directory replaces a standard one. At the end
nothing is left that garbage collection would have to find: to look through all modules for it takes 50 ms."""
_OF_OTHERS = ("COVERAGE_", "COV_CORE_", "PYTEST_", "PYTHONWARNINGS")
_SUBPROCESSES_MEASURED = "COVERAGE_PROCESS_CONFIG"
"""Set by coverage's ``patch = subprocess`` if child processes are to be measured."""


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module's ``main()`` in a new interpreter.

    :param module: A module of this package.
    :param arguments: The contents of ``sys.argv[1:]``. All users of this machine can read them.
    """
    paths = [str(Path(path).absolute()) for path in sys.path]
    boot = json.dumps([str(Path(__file__).absolute().parents[1]), module, paths])
    return [sys.executable, "-P", "-c", _BOOT, boot, *arguments]


def environment(environ: Mapping[str, str] = os.environ, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The environment for such a process, without the settings that pytest, coverage or a debugger made for itself.

    :param without: Further variables to leave out.
    """
    return {
        name: value
        for name, value in environ.items()
        if name not in without and (name == _SUBPROCESSES_MEASURED or not name.startswith(_OF_OTHERS))
    }


def await_end(process: subprocess.Popen[Any], within_s: float) -> int:
    """The exit code of a process, at the moment it ends; ``Popen.wait`` with a limit looks 20 times a second.

    :raises subprocess.TimeoutExpired: if it has not ended in time.
    """
    ends = time.monotonic() + within_s
    if process.poll() is not None:  # its number may be another's by now
        return int(process.returncode)
    with suppress(AttributeError, OSError):  # not Linux, or an old one; or another thread has waited for it
        descriptor = os.pidfd_open(process.pid)
        try:
            poll = select.poll()  # select() cannot take descriptors above 1023
            poll.register(descriptor, select.POLLIN)
            poll.poll(within_s * 1000)
        finally:
            os.close(descriptor)
    return process.wait(max(0.0, ends - time.monotonic()))


def close_input() -> None:
    """Close the standard input of this process: from now on a read finds its end."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
