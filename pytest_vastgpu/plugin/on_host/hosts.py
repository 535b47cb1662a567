"""The hosts of a run: what to rent for each, and what is known of one that is ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.about import About
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.servers.listing import names
from pytest_vastgpu.servers.workloads import HOST
from pytest_vastgpu.settings import HostSettings


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
    """What to rent, by the names of the hosts. It says what is brought.

    :raises ConfigurationError: one line: what cannot be brought, or asked for.
    """
    gpus = 1 if settings.gpus is None else settings.gpus
    listing, lines = project.listing(config.rootpath, settings.sync)
    made = environment.fields(config.rootpath, names(listing), settings.setup)
    one = build(
        HOST,
        port=0,
        image=settings.image,
        gpus=gpus,
        gpu_name=settings.gpu_name,
        gpu_ram_gb=settings.gpu_ram,
        compute_cap=settings.compute_cap,
        cuda=settings.cuda,
        disk_gb=settings.disk,
        listing=listing,
        **made,
    )
    _tell(config, *lines)
    return {f"host {number}": numbered(one, number) for number in range(1, settings.hosts + 1)}


def _tell(config: pytest.Config, *texts: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        for text in texts:
            reporter.write_line(f"vastgpu: {text}")
