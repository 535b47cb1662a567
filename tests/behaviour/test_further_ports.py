"""A test reaches every port of its instance, through one tunnel that all share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.conftest import RentFrom

TWO_PORTS = """
import http.server, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.server.server_port).encode())

for port in (9001, 8000):
    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever).start()
"""

SUITE = """
import httpx, pytest
from pathlib import Path
from pytest_vastgpu import command
from pytest_vastgpu.errors import VastGpuError

@pytest.fixture
def vast_workload():
    return command("exec python3 ports.py", files={"ports.py": "ports.py"}, gpus=1)

@pytest.fixture(scope="session")
def metrics(vast_session_instance):
    return lambda: httpx.get(f"http://{vast_session_instance.address(9001)}/metrics", timeout=60).text

@pytest.mark.parametrize("n", range(4))
def test_it(vast_instance, metrics, worker_id, n):
    assert metrics() == "9001"
    assert vast_instance.address(8000) == vast_instance.endpoint.removeprefix("http://")
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "8000"
    with pytest.raises(VastGpuError) as raised:
        vast_instance.address(9999)
    assert str(raised.value) == (
        f"nothing listens on 127.0.0.1:9999 of instance {vast_instance.id}; its server listens on 127.0.0.1:8000, "
        "127.0.0.1:9001: ask for another port, or once something listens there"
    )
    Path(f"address-{worker_id}").write_text(vast_instance.address(9001))

def test_nothing_is_there(vast_instance):
    vast_instance.address(9998)
"""


@pytest.mark.slow
def test_workers_share_the_way_to_a_further_port(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"machines": [{}]})
    pytester.path.joinpath("ports.py").write_text(TWO_PORTS)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("-n2")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines([">       vast_instance.address(9998)", "E       *nothing listens on 127.0.0.1:9998 *"])
    result.stdout.no_fnmatch_line("*calls.py*")
    addresses = {path.name: path.read_text() for path in Path().glob("address-*")}
    assert sorted(addresses) == ["address-gw0", "address-gw1"]
    assert len(set(addresses.values())) == 1


@pytest.mark.slow
def test_an_exposed_servers_further_ports_stay_behind_the_tunnel(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from({"machines": [{}]})
    pytester.path.joinpath("ports.py").write_text(TWO_PORTS)
    pytester.makepyfile(
        SUITE.partition("@pytest.fixture(scope")[0]
        + """
def test_it(vast_instance):
    assert vast_instance.address(8000) == vast_instance.endpoint.removeprefix("http://")
    assert vast_instance.address(9001).startswith("127.0.0.1:")
    assert httpx.get(f"http://{vast_instance.address(9001)}", timeout=60).text == "9001"
    ports = vast_instance.run("cat /proc/1/environ").stdout
    assert "VAST_TCP_PORT_8000=" in ports
    assert "VAST_TCP_PORT_9001=" not in ports
"""
    )
    pytester.runpytest_inprocess("--vast-expose").assert_outcomes(passed=1)
