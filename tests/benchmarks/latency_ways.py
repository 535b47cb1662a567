"""The ways of waiting that :mod:`tests.benchmarks.latency` compares: each rents, waits, and says when it saw what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import httpx

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.ssh.keys import load_key

SCALE = 15.0
"""What the sleeps of the long polls are divided by."""
PATIENCE_S = 120.0
SERVER = """\
import http.server, json, os, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"object": "list", "data": [{"id": "m"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

up_s = float(open("/proc/uptime").read().split()[0])
began_s = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
running = time.time() - (up_s - began_s)
time.sleep(float(os.environ["BENCH_WARM_S"]))
server = http.server.ThreadingHTTPServer((os.environ.get("VASTGPU_HOST", "0.0.0.0"), 8000), Handler)
note = os.environ["BENCH_NOTE"]
with open(note + ".new", "w") as file:
    json.dump({"running": running, "ready": time.time()}, file)
os.rename(note + ".new", note)
server.serve_forever()
"""
TEST = """\
import os, time
from pathlib import Path
import pytest
from pytest_vastgpu import command

ENV = {{name: os.environ[name] for name in ("BENCH_WARM_S", "BENCH_NOTE")}}

@pytest.mark.vast(command("exec {python} server.py", files={{"server.py": {server!r}}}, env=ENV))
def test_it(vast_instance):
    Path(os.environ["BENCH_NOTE"] + ".first_line").write_text(repr(time.time()))
"""


@dataclass(frozen=True)
class Boot:
    """What one round's host takes its time for, in seconds."""

    loading_s: float
    ssh_s: float
    warm_s: float

    def fleet(self) -> dict[str, object]:
        machine = {
            "price_usd_h": 0.2,
            "stages": {"loading_s": self.loading_s},
            "faults": [{"name": "ssh_refused", "for_s": self.ssh_s}],
        }
        return {"market": {"rate_limits": False}, "machines": [machine]}


@dataclass
class Seen:
    """When what was noticed, in epoch seconds."""

    created: float = 0.0
    ssh_in: float = 0.0
    first_line: float = 0.0
    slept: list[tuple[float, float]] = field(default_factory=list)
    scale: float = 1.0

    def late(self, event: float, noticed: float) -> float:
        """Seconds from an event until it was noticed, with scaled sleeps at their full length."""
        asleep = sum(max(0.0, min(end, noticed) - max(start, event)) for start, end in self.slept)
        return noticed - event + (self.scale - 1) * asleep

    def sleep(self, seconds: float) -> None:
        start = time.time()
        time.sleep(seconds / self.scale)
        self.slept.append((start, time.time()))


Way = Callable[[LocalMarket, Boot, Path], Seen]
"""Rents from a market until the server is ready; notes go into the folder."""


class Renter:
    """Rents an instance whose start script starts the server; what the two loops share."""

    def __init__(self, market: LocalMarket, boot: Boot, folder: Path) -> None:
        headers = {"Authorization": f"Bearer {market.api_key}"}
        self._http = httpx.Client(base_url=market.url, headers=headers, trust_env=False, timeout=60)
        self._folder = folder
        self.note = folder / "note"
        key = load_key({}, Path("/nonexistent"))
        self.key_file = folder / "key"
        key.save(self.key_file)
        self._http.post("/api/v0/ssh/", json={"ssh_key": key.public_line}).raise_for_status()
        onstart = (
            f"BENCH_WARM_S={boot.warm_s} BENCH_NOTE={self.note} "
            f"nohup {sys.executable} {folder / 'server.py'} > server.log 2>&1 < /dev/null &\n"
        )
        [offer] = self._http.post("/api/v0/bundles/", json={}).raise_for_status().json()["offers"]
        body = {"image": "any", "runtype": "ssh_direct", "onstart": onstart, "env": {"-p 8000:8000": "1"}}
        self.created = time.time()
        answer = self._http.put(f"/api/v0/asks/{offer['id']}/", json=body).raise_for_status().json()
        self._path = f"/api/v0/instances/{answer['new_contract']}/"

    def show(self) -> Mapping[str, object]:
        shown: Mapping[str, object] = self._http.get(self._path).raise_for_status().json()["instances"]
        return shown

    def close(self) -> None:
        self._http.delete(self._path).raise_for_status()
        self._http.close()


def ours(market: LocalMarket, boot: Boot, folder: Path) -> Seen:
    test = folder / "test_it.py"
    test.write_text(TEST.format(python=sys.executable, server=str(folder / "server.py")))
    note = folder / "note"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("VAST_", "XDG_"))},
        "VAST_URL": market.url,
        "VAST_API_KEY": market.api_key,
        "HOME": str(folder),
        "BENCH_WARM_S": str(boot.warm_s),
        "BENCH_NOTE": str(note),
    }
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(test)]
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode:
        raise SystemExit(f"the run failed:\n{done.stdout}{done.stderr}")
    [log] = folder.rglob("events.jsonl")
    first: dict[str, float] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        first.setdefault(event["state"], event["time"])
    return Seen(first["intended"], first["reachable"], float(note.with_suffix(".first_line").read_text()))


def long_polls(period_s: float) -> Way:
    """The earlier system's loop."""
    probes = (
        "printf __PROBE_OK__",
        "curl -fsS http://127.0.0.1:8000/v1/models",
        "curl -fsS http://127.0.0.1:8080/v1/models",
        "ps -ef | grep -E 'vllm|api_server|openai' | grep -v grep || true",
        "nvidia-smi || true",
        "cat server.log || true",
    )

    def loop(market: LocalMarket, boot: Boot, folder: Path) -> Seen:
        renter = Renter(market, boot, folder)
        seen = Seen(renter.created, scale=SCALE)
        try:
            while not seen.first_line:
                shown = renter.show()
                if shown.get("actual_status") == "running" and shown.get("ssh_port"):
                    address = (str(shown["ssh_host"]), str(shown["ssh_port"]), renter.key_file)
                    if ssh(*address, "true"):
                        seen.ssh_in = seen.ssh_in or time.time()
                        answers = [ssh(*address, probe) for probe in probes]
                        if answers[1] or answers[2]:
                            seen.first_line = time.time()
                            break
                seen.sleep(period_s)
        finally:
            renter.close()
        return seen

    return loop


def ssh(host: str, port: str, key: Path, command: str) -> bool:
    """A new login for each command, as the earlier system did."""
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=5")
    words = [word for option in (*options, "LogLevel=ERROR") for word in ("-o", option)]
    call = ["ssh", "-F", "/dev/null", *words, "-i", str(key), "-p", port, f"root@{host}", command]
    done = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
    return done.returncode == 0


def plain_loop(market: LocalMarket, boot: Boot, folder: Path) -> Seen:
    renter = Renter(market, boot, folder)
    seen = Seen(renter.created)
    try:
        while (shown := renter.show()).get("actual_status") != "running":
            time.sleep(2)
        ports = shown["ports"]
        assert isinstance(ports, Mapping)
        url = f"http://{shown['public_ipaddr']}:{ports['8000/tcp'][0]['HostPort']}/v1/models"
        while subprocess.run(["curl", "-fsS", "-o", "/dev/null", url], capture_output=True, check=False).returncode:
            time.sleep(0.5)
        seen.first_line = time.time()
    finally:
        renter.close()
    return seen


WAYS: Mapping[str, Way] = {
    "ours": ours,
    "polls of 30 s": long_polls(30),
    "polls of 10 s": long_polls(10),
    "plain loop": plain_loop,
}
