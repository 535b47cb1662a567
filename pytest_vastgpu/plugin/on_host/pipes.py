"""The command lines with which execnet reaches a host, and starts a worker there."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

from pytest_vastgpu.client import pipe
from pytest_vastgpu.client.calls import PipeRequest
from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.plugin.on_host import proxy
from pytest_vastgpu.plugin.on_host import runner
from pytest_vastgpu.plugin.on_host import variables
from pytest_vastgpu.plugin.on_host.hosts import Host

_PROXY = Path(proxy.__file__).relative_to(Path(__file__).parents[3]).as_posix()


def to_proxy(host: Host, address: RpcAddress, folder: Path) -> str:
    """The command line that execnet takes for a Python, and that leads to the proxy on a host. It can be used once.

    :param address: Where the supervisor listens.
    :param folder: Where a file of mode 0600 is made, with what no command line may show.
    """
    program = host.work / runner.FOLDER / _PROXY
    start = f"cd {shlex.quote(str(host.work))} && exec {shlex.quote(host.python)} -u {shlex.quote(str(program))}"
    command = f"{variables.hash_seed(os.environ)}{start}"
    said = {
        "address": address.path,
        "hello": {"secret": address.secret, "role": "pipe", "process": "pipe", "control": False},
        "asks": encode(PipeRequest(host.lease.label, command, host.name)),
    }
    descriptor, path = tempfile.mkstemp(".json", f"{host.lease.label}-", folder)  # mkstemp's mode is 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(said, file)
    return shlex.join([sys.executable, "-I", "-S", str(pipe.__file__), path])


def to_worker(host: Host, worker: str) -> str:
    """The command line that the proxy of a host takes for the Python of a worker.

    :param worker: The worker's name: ``gw0``.
    """
    return shlex.join(["env", f"{proxy.WORKER}={worker}", host.python])
