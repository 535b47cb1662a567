"""The hosts of a run: what to rent for each, and what is known of one that is ready."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.local.fleet.machine import gpus_here
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host import variables
from pytest_vastgpu.plugin.on_host.about import About
from pytest_vastgpu.plugin.on_host.at_home import collect
from pytest_vastgpu.plugin.on_host.conflicts import NOTES
from pytest_vastgpu.plugin.on_host.needs import asks_for_gpu
from pytest_vastgpu.plugin.on_host.needs import header
from pytest_vastgpu.plugin.on_host.needs import needs
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.building import requiring
from pytest_vastgpu.servers.host import IMAGE_COMPUTE_CAP
from pytest_vastgpu.servers.host import IMAGE_CUDA
from pytest_vastgpu.servers.host import IMAGE_GB
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.servers.listing import names
from pytest_vastgpu.settings import HostSettings

SELECTED: pytest.StashKey[int] = pytest.StashKey()
"""How many tests are selected here; 0 where that is not known for certain."""


@dataclass
class Host:
    """A rented host that is ready."""

    name: str
    """``host 1``: the name under which it was asked for."""
    lease: Lease
    about: About
    """What is known of the tests' environment there."""
    workers: int

    @property
    def python(self) -> str:
        """The Python of the tests' environment there."""
        return self.about.python

    @property
    def work(self) -> PurePosixPath:
        """Its working directory."""
        return self.about.work


def workloads(settings: HostSettings, config: pytest.Config) -> dict[str, Workload]:
    """What to rent, by the names of the hosts; nothing if no test is selected. It says what it will rent.

    :raises pytest.UsageError: one line: what cannot be brought, or asked for; or pytest's own.
    """
    seen = collect(config, lambda text: _tell(config, text))
    if seen.usage is not None:
        raise pytest.UsageError(*seen.usage)
    try:
        found = needs(settings, seen)
        if found is None:
            _tell(config, "no test is selected, so nothing is rented")
            return {}
        gpus, why = number_of_gpus(found.fields, config.stash[SETTINGS].backend)
        fields = {"disk_gb": settings.disk, **found.fields, "gpus": gpus}
        env = variables.passed(settings.pass_env, os.environ)
        listing, lines = project.listing(config.rootpath, settings.sync)
        local = config.stash[SETTINGS].backend == "local"
        command = str(found.fields.get("setup", ""))
        fields |= environment.fields(config.rootpath, names(listing), command, local=local)
        if not fields.get("image"):
            fields = {"image_gb": IMAGE_GB, **fields}
        one = build(HOST, port=0, **fields, env=env, listing=listing)
        if not local:  # which runs no image
            one = requiring(one, cuda=IMAGE_CUDA, compute_cap=IMAGE_COMPUTE_CAP)
    except VastGpuError as error:
        raise pytest.UsageError(f"vastgpu: {error}") from None
    config.stash[SELECTED] = 0 if seen.errors else seen.selected
    first = header(settings, found.fields, gpus, workers(settings, one), why)
    every = settings.unsaid(found.fields) if config.get_verbosity() > 0 else ()
    _tell(config, first, *every, *config.stash.get(NOTES, ()), *found.notes, *lines)
    return {f"host {number}": numbered(one, number) for number in range(1, settings.hosts + 1)}


def workers(settings: HostSettings, workload: Workload) -> int:
    """How many workers run on a host."""
    return settings.workers_per_host or max(1, workload.gpus)


def number_of_gpus(fields: Mapping[str, Any], backend: str) -> tuple[int, str]:
    """How many GPUs each host has, and why where nobody has said it.

    :param fields: What options and marks ask for. What they say of a GPU asks for one, so that no run without a GPU
        looks like one that has passed on it.
    """
    said: int | None = fields.get("gpus")
    if said is not None:
        return said, ""
    if backend != "local" or asks_for_gpu(fields):
        return 1, ""
    here = gpus_here()
    return min(1, here), "" if here else "this machine has none"


def _tell(config: pytest.Config, *texts: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        for text in texts:
            reporter.write_line(f"vastgpu: {text}")
