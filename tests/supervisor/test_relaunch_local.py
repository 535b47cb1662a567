"""An instance of the local market whose server is looked at and replaced: real processes, real SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.model import State
from pytest_vastgpu.servers.base import by_name
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.servers.registry import adapters
from pytest_vastgpu.supervisor.rental.bringup import relaunch
from pytest_vastgpu.supervisor.rental.bringup import restart
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.reuse import Fit
from pytest_vastgpu.supervisor.rental.reuse import Restart
from pytest_vastgpu.supervisor.rental.reuse import look_again
from pytest_vastgpu.supervisor.rental.reuse import takes
from pytest_vastgpu.supervisor.rental.server import job
from tests.supervisor.test_run import HEALTHY
from tests.supervisor.test_run import Scene
from tests.support.looks import until

SERVER = """
import http.server, json, os, sys
model, port = sys.argv[1], int(sys.argv[2])
with open(os.path.expanduser("~/.gpu-processes"), "a") as file:
    file.write(f"0 {os.getpid()} 8000 python3 server.py\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": model}], "files": sorted(os.listdir())}).encode())
    def log_message(self, *_): pass
print("serving", model, flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
SETUP = "date >> ran"
HOG = "nohup sleep 1000 >/dev/null 2>&1 & echo 0 $! 2867 /usr/bin/python >> ~/.gpu-processes; echo $!"


@pytest.fixture
def scene(tmp_path: Path, home: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, home)
    yield scene
    scene.close()


@pytest.mark.slow
def test_a_server_is_looked_at_and_replaced(scene: Scene, tmp_path: Path) -> None:
    server, note = tmp_path / "a_server.py", tmp_path / "note"
    server.write_text(SERVER)
    note.write_text("a")
    both = {"server.py": server, "note": note}
    one = command("exec python3 server.py one 8000", model="one", files=both, gpus=1, setup=SETUP)
    scene.workload = one
    scene.start(HEALTHY)
    run = scene.open()
    lease = scene.rent(run)
    rental = run.pool.registry[lease.label]
    adapter = by_name(adapters())["command"]
    context = BringUpContext(rental.services, rental, adapter, CancelToken())

    memory = until(lambda: rental.servers[-1].gpu_memory, lambda found: found is not None)
    assert memory is not None
    assert [used > 8000 for used in memory.used_mib] == [True]
    assert look_again(context) == Fit()

    only = {"server.py": server}
    two = command("exec python3 server.py two 9000", model="two", port=9000, files=only, gpus=1, setup=SETUP)
    assert takes(rental, two, adapter) == ""
    relaunch(context, two)
    answer = httpx.get(rental.endpoint, headers=rental.headers).json()
    assert answer == {"data": [{"id": "two"}], "files": ["ran", "server.py"]}
    assert rental.read_log().splitlines()[-1] == "serving two"
    assert "serving one" not in rental.read_log()
    runs = rental.connected.run(f"cat {job.WORK}/ran | wc -l", 30).stdout.strip()
    assert runs == "2", "the files it may depend on have changed"
    with pytest.raises(httpx.TransportError):
        httpx.get(lease.endpoint)

    until(lambda: rental.servers[-1].gpu_memory, lambda found: found is not None)
    hog = run.access.run(lease.label, HOG, 30).stdout.strip()
    found = look_again(context)
    assert isinstance(found, Restart)
    assert (
        found.why == f"its GPU memory has grown from 7.8 GiB to 10.6 GiB, of which process {hog} (python) holds 2.8 GiB"
    )
    run.access.run(lease.label, f"kill {hog}", 30)
    restart(context, found.why)
    assert rental.state is State.READY
    assert look_again(context) == Fit()
    assert httpx.get(rental.endpoint).json()["data"] == [{"id": "two"}]
    run.close()
    assert len(scene.rented()) == 1
