from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.container.container import Container
from pytest_vastgpu.local.container.fork_server import ForkServer
from pytest_vastgpu.local.container.isolation import How
from pytest_vastgpu.local.container.isolation import Isolation
from pytest_vastgpu.local.container.processes import descendants
from tests.support.local.containers import LIMIT_S
from tests.support.local.containers import SERVE
from tests.support.local.containers import ContainerRunner
from tests.support.local.containers import get
from tests.support.local.containers import wait_gone

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("ssh", "ssh-keygen"))), reason="OpenSSH's client tools are not installed"
)


def needs_isolation(container: Container) -> None:
    if not container.isolation.isolated:
        pytest.skip(container.isolation.reason)


def test_shared_memory_and_temporary_files_are_its_own(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        one, other = runner.start_one(1), runner.start_one(2)
        needs_isolation(one)
        # Ray's socket has a path of this length below TMPDIR; Linux allows 107 bytes for the whole path.
        named = f"import os, socket; socket.socket(socket.AF_UNIX).bind(os.environ['TMPDIR'] + '/{'s' * 66}')"
        assert runner.ssh(one, f'python3 -c "{named}" && touch /dev/shm/psm_1').stderr == b""
        assert runner.ssh(other, 'ls "$TMPDIR" /dev/shm/psm_1').stdout == b"/dev/shm/tmp:\n"
        runner.run(one.stop())
        (again,) = runner.start(one.spec)
        kept = runner.ssh(again, 'ls "$TMPDIR" /dev/shm').stdout
        assert kept == b"/dev/shm:\ntmp\n\n/dev/shm/tmp:\n" + b"s" * 66 + b"\n"


@pytest.mark.slow
def test_sixteen_at_once_all_serve_the_same_port(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        onstart = f"cd ~ && echo $CONTAINER_ID > who\n{SERVE}"
        specs = [runner.spec(number, onstart=onstart, ports=((8000, "tcp"),)) for number in range(1, 17)]
        containers = runner.start(*specs)
        needs_isolation(containers[0])
        for container in containers:
            assert get(container.direct_ports["8000/tcp"]).endswith(b"\n%d\n" % container.spec.instance_id)


def test_it_sees_its_own_processes_only(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(onstart="sleep 86001 &")
        needs_isolation(container)
        seen = runner.ssh(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout.decode()
        assert "sleep 86001" in seen
        assert "pytest" not in seen.replace(str(tmp_path), "")
        assert runner.ssh(container, "pkill -9 python3; pkill -9 -f 'pytest_vastgpu[.]local'; echo still here").stdout


def test_orphans_are_collected(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one()
        needs_isolation(container)
        orphans = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.05 && echo >> ended &' &) ; done"
        ended = "until [ $(cat ended | wc -l) = 5 ]; do sleep 0.02; done"
        collected = "for i in $(seq 200); do grep -q ') Z ' /proc/[0-9]*/stat || exit 0; sleep 0.02; done; exit 1"
        assert runner.ssh(container, f"{orphans}; {ended} 2> /dev/null; {collected}").returncode == 0


def test_stop_and_start_keep_the_disk(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        onstart = "echo up; echo booted >> ~/boots; sleep 86400"
        container = runner.start_one(onstart=onstart)
        runner.ssh(container, "for i in $(seq 500); do [ -s boots ] && break; sleep 0.02; done; echo kept > note")
        container.add_key("ssh-ed25519 AAAA someone")
        runner.run(container.stop())
        runner.run(container.stop())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((container.ssh_host, container.ssh_port), LIMIT_S)
        again = runner.start_one(onstart=onstart)
        wait = "for i in $(seq 500); do [ $(wc -l < boots) = 2 ] && break; sleep 0.02; done; "
        assert runner.ssh(again, wait + "cat note boots").stdout == b"kept\nbooted\nbooted\n"
        assert b"someone" in runner.ssh(again, "cat .ssh/authorized_keys").stdout
        assert again.log() == "up\nup\n"


@pytest.mark.parametrize("how", ["root", "user", "none"])
def test_destroy_leaves_no_process_file_or_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How) -> None:
    if how != "none":
        module = "pytest_vastgpu.local.container.isolation"
        attempt = f"from {module} import error_of; print(error_of({how!r}), end='')"
        error = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, check=True).stdout
        if error:
            pytest.skip(error)
    monkeypatch.setattr(ForkServer, "isolation", lambda _: Isolation(how, "for this test"))
    with ContainerRunner(tmp_path) as runner:
        before = set(descendants(os.getpid()))
        container = runner.start_one(
            onstart="setsid nohup sleep 86002 > /dev/null 2>&1 &", direct=True, ports=((8000, "tcp"), (9000, "udp"))
        )
        datagrams = container.direct_ports["9000/udp"]
        hidden = runner.ssh(container, f"test -d /proc/{os.getpid()}").returncode == 1
        assert hidden == (how != "none")
        # A double fork, as in daemons: its parent has ended when the instance is destroyed.
        started = "(setsid nohup sleep 86003 > /dev/null 2>&1 &); until pgrep -f 'sleep 8600[3]'; do sleep 0.02; done"
        assert runner.ssh(container, started).stdout
        left = f"left-{os.getpid()}"  # like the files of servers that are killed
        if how != "none":
            assert runner.ssh(container, f'touch /dev/shm/{left} "$TMPDIR/{left}"').returncode == 0
        assert container.disk_usage_gb() > 0
        ours = set(descendants(os.getpid())) - before
        assert len(ours) >= 4
        runner.run(container.destroy())
        runner.run(container.destroy())
        wait_gone(sorted(ours - _fork_server_processes(before)))
        assert not container.spec.directory.exists()
        assert not [each for each in (Path("/dev/shm"), Path(tempfile.gettempdir())) if (each / left).exists()]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free_again:
            free_again.bind(("127.0.0.1", datagrams))
        for port in {container.ssh_port, *container.direct_ports.values()} - {datagrams}:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), LIMIT_S)


def _fork_server_processes(before: set[int]) -> set[int]:
    """Return the fork server, which outlives its instances: the only new process that may be left."""
    found = set()
    for pid in set(descendants(os.getpid())) - before:
        with contextlib.suppress(OSError):  # it has just ended
            if "pytest_vastgpu.local.container.init" in Path(f"/proc/{pid}/cmdline").read_text():
                found.add(pid)
    return found


def test_first_process_that_ends_by_itself(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(ssh=False, command="echo $CONTAINER_ID; echo oops >&2; exit 41")
        assert runner.run(container.wait()) == 41
        runner.run(container.stop())
        assert container.log() == "1\noops\n"
        assert container.ssh_port == 0


def test_entrypoint_serves_a_published_port(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(ssh=False, command=f"cd ~; echo entry > who; {SERVE}", ports=((8000, "tcp"),))
        assert list(container.direct_ports) == ["8000/tcp"]
        assert get(container.direct_ports["8000/tcp"]).endswith(b"entry\n")


def test_direct_and_proxy_address_lead_to_the_same_server(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(direct=True)
        for port in (container.ssh_port, container.direct_ports["22/tcp"]):
            with runner.connect(container, port) as client:
                _, output, _ = client.exec_command("cat /proc/1/environ")
                assert b"CONTAINER_ID=1\0" in output.read()


class _Who(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


def test_market_is_reachable_under_its_own_url(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner, ThreadingUnixStreamServer(str(tmp_path / "market.sock"), _Who) as market:
        serving = threading.Thread(target=market.serve_forever)
        serving.start()
        try:
            with socket.create_server(("127.0.0.1", 0)) as reserved:
                url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
            ask = f"import urllib.request as u; print(u.urlopen('{url}/api/v0/x').read().decode())"
            container = runner.start_one(market_url=url, onstart=f'python3 -c "{ask}" > ~/answer')
            needs_isolation(container)
            assert runner.ssh(container, f'python3 -c "{ask}"').stdout == b"GET /api/v0/x\n"
            wait = "for i in $(seq 500); do [ -s answer ] && break; sleep 0.02; done; cat answer"
            assert runner.ssh(container, wait).stdout == b"GET /api/v0/x\n"
        finally:
            market.shutdown()
            serving.join()


FETCH = """
import http.client, os, urllib.parse, urllib.request
os.environ["no_proxy"] = os.environ["NO_PROXY"] = ""  # this test's server is on the loopback of the host
print(urllib.request.urlopen("http://127.0.0.1:{port}/plain").read().decode())
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
tunnel = http.client.HTTPConnection(proxy.hostname, proxy.port)
tunnel.set_tunnel("127.0.0.1", {port})
for path in ("/one", "/two"):
    tunnel.request("GET", path)
    print(tunnel.getresponse().read().decode())
try:
    print(urllib.request.urlopen("http://127.0.0.1:1/").status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("upstream", [False, True], ids=["own_proxy", "users_proxy"])
def test_network_where_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: bool) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ContainerRunner(tmp_path) as runner, ThreadingHTTPServer(("127.0.0.1", 0), _Who) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            if upstream:  # as a proxy, this server gets requests with an absolute URL, and answers with it
                monkeypatch.setenv("HTTPS_PROXY", f"http://someone:secret@127.0.0.1:{server.server_port}")
            container = runner.start_one(network=True)
            needs_isolation(container)
            if upstream:
                seen = runner.ssh(
                    container, "curl -s http://example.invalid/x || python3 -c 'print(0)'; echo; env"
                ).stdout
                assert seen.startswith(b"GET http://example.invalid/x\n")
                assert b"https_proxy=http://someone:secret@127.0.0.1:" in seen
            else:
                fetched = runner.ssh(container, "python3 -", stdin=FETCH.format(port=server.server_port).encode())
                assert fetched.stdout.split(b"\n")[:4] == [b"GET /plain", b"GET /one", b"GET /two", b"502"]
                # Downloads go to the cache of the user's own programs.
                cache = Path.home() / ".cache" / "huggingface"
                assert runner.ssh(container, "echo $HF_HOME; mkdir -p $HF_HOME/hub").stdout.decode() == f"{cache}\n"
                assert (cache / "hub").is_dir()
        finally:
            server.shutdown()
            serving.join()


def test_no_network_where_it_is_not(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner, socket.create_server(("127.0.0.1", 0)) as host:
        container = runner.start_one()
        needs_isolation(container)
        connect = f"exec 3<>/dev/tcp/127.0.0.1/{host.getsockname()[1]}"
        assert b"Connection refused" in runner.ssh(container, connect).stderr
        assert b"Network is unreachable" in runner.ssh(container, "exec 3<>/dev/tcp/192.0.2.1/80").stderr
        assert b"proxy" not in runner.ssh(container, "env").stdout.lower()


MARKET = """
import asyncio, sys
from pathlib import Path
from pytest_vastgpu.local.container.container import Container, ContainerSpec

async def main(folder):
    for number in (1, 2):
        await Container.start(ContainerSpec(
            number, folder / str(number), {}, (), "setsid sleep 86004 & sleep 86005", "", True, True, False,
            ((8000, "tcp"),), "http://127.0.0.1:39998", folder / "m.sock", (), number == 1))
    print("up", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_killing_the_market_ends_every_instance(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", MARKET, str(tmp_path)], stdout=subprocess.PIPE) as market:
        assert market.stdout is not None
        assert market.stdout.readline() == b"up\n"
        family = descendants(market.pid)
        assert len(family) >= 1 + 2 * 2
        market.send_signal(signal.SIGKILL)
        wait_gone(family)


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        (tmp_path / "1" / "home").mkdir(parents=True)
        (tmp_path / "1" / "container.log").mkdir()
        with pytest.raises(LocalMarketError, match=r"instance 1 cannot start: .*container\.log.*init\.log"):
            runner.start_one()
