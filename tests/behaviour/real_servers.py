"""What the tests of real servers share: a workload whose start can be disturbed, and that nobody is blamed."""

from __future__ import annotations

from pathlib import Path

from pytest_vastgpu.servers.http_server import HttpServer
from tests.behaviour import conftest as renting

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def hold_port(port: int) -> str:
    """Shell text that has another program listen on a port of the loopback interface, and waits until it does."""
    connect = f'import socket; socket.create_connection(("127.0.0.1", {port}))'
    return (
        f"python3 -m http.server {port} --bind 127.0.0.1 > /dev/null 2>&1 &\n"
        f"until python3 -c '{connect}' 2> /dev/null; do sleep 0.1; done\n"
    )


def conftest(adapter: type[HttpServer], workload: str, before: str) -> str:
    """A conftest file with a workload.

    :param adapter: The adapter of its server, which has the name of the builder.
    :param workload: The call of the builder.
    :param before: Shell text that goes on beside the same server, or comes before it; empty: nothing does.
    """
    return f"""
import dataclasses, pytest
from pytest_vastgpu import {adapter.name}
from {adapter.__module__} import {adapter.__name__}

class Disturbed({adapter.__name__}):
    name = "disturbed"

    def launch(self, workload, api_key):
        launch = super().launch(workload, api_key)
        return dataclasses.replace(launch, script={before!r} + launch.script)

def pytest_vastgpu_adapters():
    return [Disturbed()]

@pytest.fixture
def vast_workload():
    workload = {workload}
    return dataclasses.replace(workload, adapter="disturbed") if {before!r} else workload
"""


def assert_nobody_blamed(cache: Path, *, weak: float = 0.5) -> None:
    """No machine in the cache of host statistics has anything held against it.

    :param weak: An end that nobody can explain is evidence, of less than this; 0: none may be.
    """
    for machine in renting.known(cache).values():
        assert machine.banned_until == 0
        assert machine.last_reason == ""
        assert machine.infra_failures == 0 or machine.infra_failures < weak
