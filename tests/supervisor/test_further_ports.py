"""Ports of an instance beside its server's: forwarded on demand, shared, closed when it is given back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.pool.registry import RentalRegistry
from pytest_vastgpu.supervisor.rental.bringup import relaunch
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from tests.support.lives import WORKLOAD
from tests.support.lives import Life
from tests.support.lives import ScriptedAdapter
from tests.support.lives import any_key
from tests.support.lives import assert_nothing_is_left
from tests.support.memory import MemoryForward
from tests.support.memory import Script

KEY = any_key()
GRPC = 8001


def ready(tmp_path: Path) -> tuple[Life, InstanceAccess, str]:
    """A life with a ready instance, what answers its tests, and its label."""
    life = Life(tmp_path, [Script()], KEY)
    rental = life.bring_up()
    registry = RentalRegistry(3600.0, lambda _: None, life.clock)
    registry.started(rental)
    return life, InstanceAccess(registry), rental.label


def listening(life: Life, monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Have servers listen on these ports of the instance."""

    def forward(_: object, port: int) -> MemoryForward:
        life.connector.forwards.append(MemoryForward(port, f"http://127.0.0.1:{port + 30000}"))
        return life.connector.forwards[-1]

    monkeypatch.setattr(life.connector, "forward", forward)
    monkeypatch.setattr(MemoryForward, "answers", lambda self: self.port in ports)


def test_a_port_is_forwarded_once_and_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life, access, label = ready(tmp_path)
    listening(life, monkeypatch, GRPC, 8002)
    addresses = [access.address(label, port) for port in (GRPC, GRPC, 8002)]
    assert addresses == ["127.0.0.1:38001", "127.0.0.1:38001", "127.0.0.1:38002"]
    assert [forward.port for forward in life.connector.forwards] == [8000, GRPC, 8002]
    (rental,) = life.rentals
    rental.give_back()
    assert_nothing_is_left(life)
    with pytest.raises(VastGpuError, match=r"port 8001 leads nowhere: instance \d+ is gone"):
        access.address(label, GRPC)
    with pytest.raises(VastGpuError, match="port 8001 leads nowhere: the instance is given back"):
        rental.ports.open(GRPC)


def test_the_servers_own_port_has_the_address_of_the_endpoint(tmp_path: Path) -> None:
    life, access, label = ready(tmp_path)
    life.rentals[0].endpoint = "http://203.0.113.9:40001"  # as where the market publishes it
    assert access.address(label, 8000) == "203.0.113.9:40001"
    assert len(life.connector.forwards) == 1


def test_it_survives_a_broken_connection_and_another_start_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, access, label = ready(tmp_path)
    (rental,) = life.rentals
    ways: list[Callable[[], Connection | None]] = []
    listening(life, monkeypatch, GRPC)
    forward = life.connector.forward

    def noted(way: Callable[[], Connection | None], port: int) -> MemoryForward:
        ways.append(way)
        return forward(way, port)

    monkeypatch.setattr(life.connector, "forward", noted)
    before = access.address(label, GRPC)
    first = ways[-1]()
    assert first is not None
    first.close()
    second = ways[-1]()
    assert second is not None
    assert second.alive
    relaunch(BringUpContext(life.services, rental, ScriptedAdapter(), life.cancel), WORKLOAD, name="scripted")
    assert access.address(label, GRPC) == before
    assert [each.closed for each in life.connector.forwards] == [False, False]


@pytest.mark.parametrize(
    ("sockets", "there"), [("00000000:1F42\n0100007F:1F40\n", "127.0.0.1:8000, 0.0.0.0:8002"), ("", "nothing")]
)
def test_where_nothing_listens_it_says_what_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sockets: str, there: str
) -> None:
    life, access, label = ready(tmp_path)
    rental = life.rentals[0]
    seen = ProbeResult("listeners", ProbeFailure.NONE, 0, sockets, "", 0.0)
    monkeypatch.setattr(rental.connected, "run", lambda *_, **__: seen)
    with pytest.raises(VastGpuError) as raised:
        access.address(label, GRPC)
    assert str(raised.value) == (
        f"nothing listens on 127.0.0.1:8001 of instance {rental.instance_id}; its server listens on {there}: "
        "ask for another port, or once something listens there"
    )


def test_without_a_connection_it_says_so(tmp_path: Path) -> None:
    life, access, label = ready(tmp_path)
    life.rentals[0].connected.close()
    with pytest.raises(VastGpuError, match=r"port 8001 of instance \d+ cannot be reached: no SSH login: .*closed"):
        access.address(label, GRPC)
