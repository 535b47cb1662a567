"""A stream of tokens through the tunnel, while the test process computes and while a log of 4 MB is judged.

``python -m tests.benchmarks.stream`` rents from a local market a server that sends a token every 2 ms, and reads them
in a process of its own, through the tunnel and then from the same server run by hand, under the same load. The figures
are seconds a token and the 99th percentile of how late a token is. The log is that of a second instance that warms up
meanwhile: it grows all the time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_vastgpu.local.embed import LocalMarket
from tests.benchmarks import report
from tests.benchmarks import suite

TOKENS = 6000
EVERY_S = 0.002
GOAL_RATIO = 0.98

SERVER = f"""
import http.server, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        tokens = int(self.path.strip("/") or 0)
        due = time.monotonic()
        for number in range(tokens):
            due += {EVERY_S}
            time.sleep(max(0.0, due - time.monotonic()))
            data = b"%20.9f\\n" % time.monotonic()
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\\r\\n\\r\\n")

    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
CLIENT = """
import json, sys, time, urllib.request

late, began = [], time.monotonic()
with urllib.request.urlopen(sys.argv[1]) as answer:
    for line in answer:
        late.append(time.monotonic() - float(line))
took = time.monotonic() - began
late.sort()
print(json.dumps({"token_s": took / len(late), "p99_s": late[int(len(late) * 0.99)], "most_s": late[-1]}))
"""
TESTS = f"""
import contextlib, json, os, pathlib, subprocess, sys, threading, time, pytest
from pytest_vastgpu import command

SERVES = command("exec python3 server.py 8000", files={{"server.py": "server.py"}}, gpus=0, disk_gb=8)
TALKS = command("exec python3 talker.py", files={{"talker.py": "talker.py"}}, gpus=0, disk_gb=9, warmup_s=600)

def measure(endpoint, busy):
    client = subprocess.Popen(
        [sys.executable, "client.py", f"{{endpoint}}/{TOKENS}"], stdout=subprocess.PIPE, text=True)
    while busy and client.poll() is None:
        sum(range(10_000))
    return json.loads(client.communicate()[0])

@pytest.mark.vast(SERVES)
@pytest.mark.parametrize("load", ["idle", "computing", "judging"])
def test_stream(vast_instance, vast_instance_factory, load):
    def talk():
        with contextlib.suppress(BaseException):
            vast_instance_factory(TALKS)  # never ready
    if load == "judging":
        threading.Thread(target=talk, daemon=True).start()
        (events,) = pathlib.Path.home().glob(".local/state/pytest-vastgpu/runs/*/events.jsonl")
        while "starting 7" not in events.read_text() and events.read_text().count("server launched") < 2:
            time.sleep(0.1)
        time.sleep(SETTLED_S)
    found = {{}}
    for _ in range(ROUNDS):
        for name, endpoint in (("tunnel", vast_instance.endpoint), ("direct", os.environ["DIRECT"])):
            found.setdefault(name, []).append(measure(endpoint, busy=load == "computing"))
    with open("found", "a") as file:
        print(json.dumps({{"load": load, **found}}), file=file)
"""
TALKER = """
import time
line = "INFO 11-28 12:00:00 [loader.py:12] Loading part %d of the weights from a slow disk, please wait" + 36 * "."
for number in range(10**9):
    print(line % number, flush=True)
    if number > 28_000:  # 4 MB
        time.sleep(0.01)
"""


def measured(rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as home, LocalMarket() as market:
        directory = Path(scratch)
        (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        tests = TESTS.replace("ROUNDS", str(rounds)).replace("SETTLED_S", "6")
        for name, text in (("server.py", SERVER), ("client.py", CLIENT), ("talker.py", TALKER), ("test_it.py", tests)):
            (directory / name).write_text(text, encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, str(directory / "server.py"), "0"], stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            direct = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            try:
                suite.run(
                    directory, Path(home), passed=3, VAST_URL=market.url, VAST_API_KEY=market.api_key, DIRECT=direct
                )
            finally:
                server.kill()
        return [json.loads(line) for line in (directory / "found").read_text(encoding="utf-8").splitlines()]


def rows(quick: bool) -> list[report.Row]:
    found = []
    for each in measured(1 if quick else 3):
        mine, theirs = each["tunnel"], each["direct"]
        for what, name, most in (
            ("seconds a token", "token_s", 1 / GOAL_RATIO),
            ("late, 99th percentile", "p99_s", None),
        ):
            ours, others = (min(round_[name] for round_ in rounds) for rounds in (mine, theirs))
            row = report.Row(f"stream, {each['load']}: {what}", ours, others=others, beside="direct", most_ratio=most)
            found.append(replace(row, facts={"tunnel": mine, "direct": theirs}))
    return found


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
