from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import command

HERE = Path(__file__).parent


def nvidia_smi(*arguments: str) -> str:
    """What it prints on this machine.

    :raises LookupError: why it does not answer.
    """
    if shutil.which("nvidia-smi") is None:
        raise LookupError("this machine has no nvidia-smi, so no NVIDIA GPU")
    answer = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LookupError(f"nvidia-smi: {answer.stdout.strip() or answer.stderr.strip()}")
    return answer.stdout


@pytest.fixture(scope="session")
def gpu_here() -> tuple[str, int]:
    """Name and MiB of this machine's first GPU, as its driver says; skips where there is none."""
    try:
        rows = nvidia_smi("--query-gpu=name,memory.total", "--format=csv,noheader,nounits").splitlines()
    except LookupError as reason:
        pytest.skip(str(reason))
    name, memory = rows[0].rsplit(", ", 1)
    return name, int(memory)


@pytest.fixture
def vast_workload(gpu_here: tuple[str, int]) -> Workload:
    """Depends on ``gpu_here``: where this machine has no GPU, tests skip before anything is rented."""
    return command(
        "exec python3 cuda_server.py 8000",
        files={"cuda_server.py": HERE / "cuda_server.py"},
        ready_path="/gpu",
        gpus=1,
    )
