"""Published ports, and the host name of an instance."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.container.fork_server import ForkServer
from pytest_vastgpu.local.container.isolation import Isolation
from tests.support.local.containers import LIMIT_S
from tests.support.local.containers import SERVE
from tests.support.local.containers import ContainerRunner
from tests.support.local.containers import get

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("ssh", "ssh-keygen"))), reason="OpenSSH's client tools are not installed"
)
ECHO = """exec python3 -c '
import os, socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int({port})))
while True:
    data, client = server.recvfrom(70000)
    server.sendto(data.upper(), client)
'"""


def answer(client: socket.socket, data: bytes) -> bytes:
    """Send until a server answers, within a bound: it may be starting, and datagrams may be lost."""
    client.settimeout(0.1)
    for _ in range(300):
        try:
            client.send(data)
            return client.recv(70000)
        except (TimeoutError, ConnectionRefusedError):
            threading.Event().wait(0.02)
    raise AssertionError("the server does not answer")


def caller(port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.1", port))
    return client


def test_datagrams_find_their_way_in_and_back_to_each_client(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(onstart=ECHO.format(port=9000), ports=((9000, "udp"), (9000, "tcp")))
        assert set(container.direct_ports) == {"9000/udp", "9000/tcp"}
        port = container.direct_ports["9000/udp"]
        environment = runner.ssh(container, "cat /proc/1/environ").stdout.decode().split("\0")
        if container.isolation.isolated:  # without isolation process 1 is that of this machine
            assert f"VAST_UDP_PORT_9000={port}" in environment
        with caller(port) as first, caller(port) as large:
            assert answer(first, b"first") == b"FIRST"
            assert answer(large, b"x" * 20000) == b"X" * 20000
        with caller(port) as one, caller(port) as other:  # new ones: those have perhaps sent twice
            one.settimeout(LIMIT_S)
            other.settimeout(LIMIT_S)
            one.send(b"one")
            other.send(b"other")
            assert (one.recv(100), other.recv(100)) == (b"ONE", b"OTHER")


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "not_isolated"])
def test_an_identity_port_has_one_number_inside_and_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    if not isolated:
        monkeypatch.setattr(ForkServer, "isolation", lambda _: Isolation("none", "for this test"))
    serve = SERVE.replace("8000", "$VAST_TCP_PORT_70000")
    onstart = f"cd ~; echo identical > who; ({serve}) &\n" + ECHO.format(port='os.environ["VAST_UDP_PORT_70001"]')
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(onstart=onstart, ports=((70000, "tcp"), (70001, "udp")))
        numbers = {name.partition("/")[2]: (name, port) for name, port in container.direct_ports.items()}
        assert {kind: name for kind, (name, _) in numbers.items()} == {
            kind: f"{port}/{kind}" for kind, (_, port) in numbers.items()
        }
        if not isolated:  # they are free until the instance takes them, and the system gives none of them away
            lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
            assert all(port < lowest for _, port in numbers.values())
        assert get(numbers["tcp"][1]).endswith(b"identical\n")
        with caller(numbers["udp"][1]) as client:
            assert answer(client, b"same") == b"SAME"


def test_where_nothing_keeps_instances_apart_each_port_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForkServer, "isolation", lambda _: Isolation("none", "no namespaces here"))
    with ContainerRunner(tmp_path) as runner:
        first = runner.start_one(1, ports=((8000, "tcp"), (70000, "tcp")))
        runner.start_one(2, ports=((8000, "udp"), (8001, "tcp"), (70000, "tcp")))
        with pytest.raises(LocalMarketError, match=r"8000/tcp is already allocated to instance 1: no namespaces here"):
            runner.start_one(3, ports=((8000, "tcp"),))
        runner.run(first.stop())
        assert runner.start_one(3, ports=((8000, "tcp"),)).direct_ports


def test_the_host_name_is_the_instances_own(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(host_name="billybob")
        if not container.isolation.isolated:
            pytest.skip(container.isolation.reason)
        seen = runner.ssh(container, "hostname; python3 -c 'import socket; print(socket.gethostbyname(\"billybob\"))'")
        assert seen.stdout == b"billybob\n127.0.0.1\n"
        assert socket.gethostname() != "billybob"
        assert runner.ssh(runner.start_one(2), "hostname").stdout.decode().strip() == socket.gethostname()


def test_a_udp_port_without_a_server_gives_no_answer(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(ports=((9000, "udp"),))
        with caller(container.direct_ports["9000/udp"]) as client:
            client.settimeout(0.3)
            for _ in range(2):
                client.send(b"hello?")
                with pytest.raises(TimeoutError):
                    client.recv(100)
        assert runner.ssh(container, "true").returncode == 0
