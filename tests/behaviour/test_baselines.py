"""Stored baselines in whole runs: rented, measured, brought home from workers, reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.support.looks import alive

slow = pytest.mark.slow
KEPT = Path(".vastgpu/baselines")
SERVER = """
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep({pause})
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"{{}}")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
SUITE = """
import pytest, time
from pathlib import Path
from pytest_vastgpu import command
from pytest_vastgpu.measuring.load import Kind, Load

@pytest.fixture
def vast_workload():
    return command("exec python3 measured.py", files={"measured.py": "measured.py"}, gpus=1)

def load(concurrency):
    return Load(Kind.HTTP, "/", {"n": "{n}"}, concurrency=concurrency, warmup_s=0)

@pytest.fixture(autouse=True)
def alone(vast_benchmark, request):
    begun = time.monotonic()
    yield
    Path(f"{request.node.name}.times").write_text(f"{begun} {time.monotonic()}")

def test_1(vast_benchmark): vast_benchmark(load(1), seconds=1)
def test_2(vast_benchmark): vast_benchmark(load(2), seconds=1)
"""


def files() -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(KEPT.glob("*/*.json"))]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.path.joinpath("measured.py").write_text(SERVER.format(pause=0))
    pytester.makepyfile(SUITE)
    return pytester


@pytest.mark.slow
def test_what_workers_measure_is_compared_there_and_saved_by_the_controller(
    suite: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    rent_from({"machines": [{"count": 2}]})
    run = start("-n", "2", "--vast-baseline=compare:main,save:main")
    assert run.rest() == 0
    (_, first_ends), (second_begins, _) = sorted(
        tuple(map(float, path.read_text().split())) for path in suite.path.glob("*.times")
    )
    assert first_ends <= second_begins, "each had the instance alone"
    assert run.output.count(": renting machine ") == 1
    assert run.output.count("not compared: nothing is kept as baseline 'main'") == 2  # one for each test
    (kept,) = files()
    assert "vastgpu: baseline 'main' is saved, 2 measurements: commit .vastgpu/baselines/" in run.output
    entries = [each["extra_info"]["vastgpu"] for each in kept["benchmarks"]]
    assert sorted(each["load"]["concurrency"] for each in entries) == [1, 2]
    assert {each["kind"] for each in entries} == {"RTX 4090, simulated by a CPU"}
    assert all(each["figures"]["throughput"]["value"] > 0 for each in entries)
    assert all(each["stats"]["max"] >= each["stats"]["min"] > 0 for each in kept["benchmarks"])


@slow
def test_a_slower_server_is_suspected_in_the_report_and_the_run_stays_green(
    suite: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from({"machines": [{"count": 2}]})
    assert start("--vast-baseline=save:main").rest() == 0
    suite.path.joinpath("measured.py").write_text(SERVER.format(pause=0.2))
    run = start("-W", "error", "--vast-baseline=compare:main")
    assert run.rest() == 0
    assert run.output.count("suspected, against baseline 'main'") == 2
    assert run.output.count("to settle it, compare on one host: vast_compare(baseline=<the workload of ") == 2
    found = json.loads((run.directory / "measurements.json").read_text())
    assert "suspected, against baseline 'main'" in json.dumps(found)
    assert "vastgpu: 2 measurements" in run.output  # each once, though the instance tells of it, too
    assert alive(market) == set()


@slow
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_damaged_baseline_ends_the_run_before_anything_is_rented(
    suite: pytest.Pytester, rent_from: RentFrom, start: Start, workers: tuple[str, ...]
) -> None:
    market = rent_from({"machines": [{"count": 2}]})
    damaged = KEPT / "RTX_4090" / "0001_main.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    run = start(*workers, "--vast-baseline=compare:main")
    assert run.rest() != 0
    assert f"--vast-baseline=compare:main: {damaged} cannot be read: it is damaged" in run.output
    assert market.status()["ended"] == []
