"""Every example runs as its README says, on a local market of its own, and leaves nothing behind.

Real vLLM is not here: it is installed and run by ``.ci/run``.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from pytest_vastgpu.diagnosis.verdicts import judge_end

ROOT = Path(__file__).parent.parent
RUNS = {
    "quickstart": ["-n0"],
    "custom_adapter": ["-n0"],
    "markers_and_strictness": ["-n0"],
    "xdist_shared": ["-n4"],
    "local_gpu": ["-n0"],
    "gpu_regression": ["-n0"],
    "on_host": ["--vast-hosts=1"],  # NumPy comes from PyPI
}
QUICK = {"quickstart"}


def run_example(name: str, *arguments: str) -> str:
    """Run it as a user would, and give what it printed."""
    with tempfile.TemporaryDirectory() as own:  # runs that end together take away the same old directories
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, f"conftest_examples/{name}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DEBUG_TEMPROOT": own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in RUNS]
)
def test_the_example_runs(name: str) -> None:
    output = run_example(name, *RUNS[name])
    assert re.search(r"=== .*(passed|skipped)", output)
    created = re.findall(r"created instance (\d+)", output)
    gone = re.findall(r"instance (\d+)\)?: gone after", output)
    assert sorted(created) == sorted(gone)


@pytest.mark.slow
def test_four_workers_share_the_quick_starts_instance() -> None:
    assert len(re.findall(r"created instance", run_example("quickstart", "-n4"))) == 1


@pytest.mark.slow
def test_the_gpu_example_says_why_it_skips_where_there_is_no_gpu() -> None:
    if subprocess.run(["sh", "-c", "nvidia-smi"], capture_output=True, check=False).returncode == 0:
        pytest.skip("this machine has a GPU, so the example runs")
    assert re.search(r"SKIPPED .*nvidia-smi", run_example("local_gpu", "-rs"))


@pytest.mark.slow
def test_what_needs_a_gpu_on_a_host_says_so_where_there_is_none() -> None:
    output = run_example("on_host", "--vast-hosts=1", "--vast-gpus=0")
    assert re.search(r"=== 11 passed, 25 skipped|=== 36 passed", output)
    assert len(re.findall(r"SKIPPED .*: (PyTorch is not installed here|no GPU: )", output)) in {0, 6}


def test_where_there_is_no_llama_cpp_the_remedy_is_the_quick_starts_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert any(requirement.startswith("xllamacpp") for requirement in extras["quickstart"])
    log = "/root/.vastgpu/start.sh: 95: exec: llama-server: not found"
    assert "pip install 'pytest-vastgpu[quickstart]'" in judge_end(log, exit_code=127, server="llama.cpp").remedy


@pytest.mark.parametrize(("works", "installed"), [(True, ""), (False, "update -qq\ninstall -y -qq python3\n")])
def test_the_example_that_measures_brings_a_whole_python(works: bool, installed: str, tmp_path: Path) -> None:
    """A ``python3-minimal`` is there, but lacks what the load's driver imports."""
    examples = runpy.run_path(str(ROOT / "conftest_examples/gpu_regression/conftest.py"))
    python = f'exec {sys.executable} "$@"' if works else "echo ModuleNotFoundError >&2; exit 1"
    for name, script in (("python3", python), ("apt-get", f'echo "$@" >> {tmp_path}/installed')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "installed").touch()
    done = subprocess.run(["/bin/sh", "-c", examples["PYTHON"]], env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "installed").read_text(encoding="utf-8") == installed


def test_every_example_is_run() -> None:
    found = {path.name for path in (ROOT / "conftest_examples").iterdir() if list(path.glob("test_*.py"))}
    assert found == {*RUNS, "vllm"}
