"""pytest's arguments, as a worker on a host gets them: paths of this machine are replaced by those of the host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_vastgpu.plugin.on_host import about
from pytest_vastgpu.plugin.on_host.places import Places
from pytest_vastgpu.plugin.on_host.places import within


def on_host(arguments: Sequence[str], cwd: Path, places: Places) -> list[str]:
    """The arguments for a worker.

    :param arguments: Those that pytest was called with here.
    :param cwd: Where it was called. A worker is called at the same place in the project, so relative paths are the
        same; for a place outside of the project there is none on the host, and the worker is called in the root.
    """
    if within(cwd, places.root) is not None:
        return [places.on_host(each) for each in arguments]
    return [_from_outside(each, cwd, places) for each in arguments]


def _from_outside(argument: str, cwd: Path, places: Places) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    path, bracket, rest = value.partition("[")
    meant = places.path_on_host(Path(os.path.normpath(cwd / path)))
    return places.on_host(argument) if meant is None else f"{option}{equals}{meant}{bracket}{rest}"


def of_run(config: pytest.Config, places: Places) -> list[str]:
    """The arguments for a worker of this run: root directory and configuration file are those that were found here."""
    found = [f"--rootdir={places.there}"]
    if config.inipath is not None:
        found.append(f"--config-file={places.on_host(str(config.inipath))}")
    if config.pluginmanager.has_plugin("cacheprovider"):  # without it, pytest does not know the setting
        found += ["-o", f"cache_dir={places.there.parent / CACHE}"]
    given = about.of_workers(config)
    return [*on_host(given, config.invocation_params.dir, places), *found]


CACHE = "cache"
"""pytest's cache on a host, below its working directory: not in the project, where the one of this machine may lie."""


def check(config: pytest.Config) -> None:
    """Check that all that pytest was called with can be brought to a host. A path that does not exist is let pass: the
    collection at home knows it.

    :raises pytest.UsageError: one line: what cannot.
    """
    root, ini = config.rootpath, config.inipath
    if ini is not None and ini.is_file() and within(ini, root) is None:
        raise pytest.UsageError(f"--vast-hosts: {_outside(str(ini), ini, root)}")
    if config.option.pyargs:
        return
    for argument in config.args:  # also those of testpaths; without any, the directory in which pytest was called
        path = Path(os.path.normpath(config.invocation_params.dir / argument.partition("[")[0].partition("::")[0]))
        if os.path.lexists(path) and within(path, root) is None:
            raise pytest.UsageError(f"--vast-hosts: {_outside(argument, path, root)}")


def _outside(what: str, path: Path, root: Path) -> str:
    return (
        f"{what} is not brought to the hosts, because it lies outside of the root directory {root}: "
        f"say --rootdir={os.path.commonpath([root, path if path.is_dir() else path.parent])}"
    )
