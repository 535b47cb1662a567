"""The hosts of a run: what to rent for each, and what is known of one that is ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePosixPath

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.runner import Runner
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.servers.workloads import HOST
from pytest_vastgpu.settings import HostSettings


@dataclass
class Host:
    """A rented host that is ready."""

    name: str
    """``host 1``: the name under which it was asked for."""
    lease: Lease
    python: str
    """The Python of the tests' environment there."""
    version: str
    work: PurePosixPath
    """Its working directory."""
    workers: int


def workloads(settings: HostSettings, root: Path) -> dict[str, Workload]:
    """What to rent, by the names of the hosts.

    :raises ConfigurationError: one line: what cannot be brought, or asked for.
    """
    gpus = 1 if settings.gpus is None else settings.gpus
    theirs, runner = project.files(root), Runner.installed()
    setup, uses = environment.of(theirs, settings.setup, runner)
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
        setup=setup,
        setup_uses=uses,
        files={**theirs, **runner.files(), **environment.brought()},
    )
    return {f"host {number}": numbered(one, number) for number in range(1, settings.hosts + 1)}
