"""What the plugin adds to the start of real vLLM, on CPU, beside the same command line started by hand.

``VASTGPU_VLLM=DIR python -m tests.benchmarks.vllm_start``, where ``.ci/vllm-cpu.sh DIR`` has made ``DIR``. By hand:
from the start of the process to the first good completion, asked for as soon as the port is open. Through the plugin:
from the start of the same process, as its file on the instance tells, to the first line of the test. Both begin with
an empty home and take turns in going first; one start of each beforehand has warmed the machine's caches.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.vllm import VllmAdapter
from pytest_vastgpu.servers.vllm import vllm
from tests.benchmarks import report
from tests.benchmarks import suite

GOAL_RATIO = 1.03
ROUNDS = 7
LIMIT_S = 300.0
PULSE_S = 0.01
KEY = "benchmark"
# Eager mode saves compiling; the share is of the machine's memory.
ARGS = ("--enforce-eager", "--gpu-memory-utilization=0.1")

TESTS = """
import json, time
from pathlib import Path
import pytest
from pytest_vastgpu import vllm

@pytest.fixture
def vast_workload():
    return vllm({model!r}, *{args!r}, port={port}, env={env!r}, gpus=0, disk_gb=8, image_gb=0)

def test_it(vast_instance):
    first_line = time.time()
    began = float(vast_instance.run("stat -c %.9Y .vastgpu/pid").stdout)
    found = dict(began=began, first_line=first_line, steps=dict(vast_instance.seconds))
    Path({found!r}).write_text(json.dumps(found))
"""


class Start(NamedTuple):
    """One start through the plugin."""

    launched_s: float
    """From the start of vLLM's process to the test's first line."""
    created_s: float
    """From create to ready."""
    steps: dict[str, float]
    """Seconds in each state."""


def workload(place: Path, port: int) -> Workload:
    path = f"{place / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    env = {"PATH": path, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return vllm(str(place / "tiny-llama"), *ARGS, port=port, env=env, gpus=0, disk_gb=8, image_gb=0)


def by_hand(wanted: Workload) -> float:
    """Seconds from the start of vLLM's process to its first good completion."""
    launch = VllmAdapter().launch(wanted, KEY)
    with tempfile.TemporaryDirectory() as home:
        script, log = Path(home, "start.sh"), Path(home, "server.log")
        script.write_text(launch.script, encoding="utf-8")
        environ = suite.environment(Path(home), **launch.env, **dict(wanted.env))
        with log.open("wb") as output:
            began = time.perf_counter()
            server = subprocess.Popen(
                ["sh", str(script)],
                cwd=home,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while not completes(wanted):
                    if server.poll() is not None or time.perf_counter() - began > LIMIT_S:
                        raise report.Failed(f"vLLM does not serve:\n{log.read_text(errors='replace')}")
                    time.sleep(PULSE_S)
                return time.perf_counter() - began
            finally:
                end(server)


def completes(wanted: Workload) -> bool:
    """Whether it completes a token now; while its port is closed, asking costs next to nothing."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", wanted.port)):
            return False
    body = {"model": wanted.model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    url = f"http://127.0.0.1:{wanted.port}/v1/completions"
    try:
        answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.is_success and isinstance(answer.json()["choices"][0]["text"], str)


def end(server: subprocess.Popen[bytes]) -> None:
    """End it and its engine, which has the same process group, and wait until the last of them is gone."""
    ends = time.monotonic() + 30
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        while time.monotonic() < ends:
            os.killpg(server.pid, 0)
            time.sleep(0.05)


def through_the_plugin(wanted: Workload) -> Start:
    with tempfile.TemporaryDirectory() as scratch:
        directory, home, found = (Path(scratch, name) for name in ("suite", "home", "found.json"))
        directory.mkdir()
        home.mkdir()
        directory.joinpath("pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        tests = TESTS.format(
            model=wanted.model, args=wanted.args, port=wanted.port, env=dict(wanted.env), found=str(found)
        )
        directory.joinpath("test_it.py").write_text(tests, encoding="utf-8")
        suite.run(directory, home, "--vast-backend=local", passed=1)
        told = json.loads(found.read_text(encoding="utf-8"))
    steps = {name: seconds for name, seconds in told["steps"].items() if name != "ready"}
    return Start(told["first_line"] - told["began"], sum(steps.values()), steps)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def rows(quick: bool) -> list[report.Row]:
    if "VASTGPU_VLLM" not in os.environ:
        raise report.Skipped("VASTGPU_VLLM does not name an environment with vLLM, see .ci/vllm-cpu.sh")
    wanted = workload(Path(os.environ["VASTGPU_VLLM"]).resolve(), free_port())
    others: list[float] = []
    mine: list[Start] = []
    for turn in range(1 if quick else ROUNDS + 1):
        if turn % 2:
            others.append(by_hand(wanted))
            mine.append(through_the_plugin(wanted))
        else:
            mine.append(through_the_plugin(wanted))
            others.append(by_hand(wanted))
    warm = 0 if quick else 1
    others, mine = others[warm:], mine[warm:]
    beside = statistics.median(others)
    steps = {name: statistics.median(each.steps[name] for each in mine) for name in mine[0].steps}
    facts = {"seconds": [each.launched_s for each in mine], "others_seconds": others}
    return [
        report.Row(
            "real vLLM (CPU): launch → test",
            statistics.median(each.launched_s for each in mine),
            others=beside,
            beside="by hand",
            most_ratio=GOAL_RATIO,
            facts=facts,
        ),
        report.Row(
            "real vLLM (CPU): create → ready (rent, boot, SSH, check, launch, start)",
            statistics.median(each.created_s for each in mine),
            others=beside,
            beside="by hand",
            facts={"seconds": [each.created_s for each in mine], "steps_median_s": steps},
        ),
    ]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
