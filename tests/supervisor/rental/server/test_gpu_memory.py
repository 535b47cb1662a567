"""The memory of GPUs, as a driver tells it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.supervisor.rental.server import gpu_memory
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.gpu_memory import GpuMemory
from pytest_vastgpu.supervisor.rental.server.gpu_memory import Process
from pytest_vastgpu.supervisor.rental.server.gpu_memory import Whose
from tests.support.looks import sleeper

SMI = """#!/bin/sh
case $1 in
--query-gpu=*) {gpus} ;;
*) printf '%s\\n' '{server}, 11000, python3 serve.py' '{other}, 2867, /usr/bin/python' '99999999, 100, [Not Found]' ;;
esac
"""


def asked(home: Path, gpus: str, server: int = 1, other: int = 1) -> GpuMemory | None:
    smi = home / "nvidia-smi"
    smi.write_text(SMI.format(gpus=gpus, server=server, other=other))
    smi.chmod(0o755)
    env = {"PATH": f"{home}:{os.environ['PATH']}", job.API_KEY: "s3cret"}
    done = subprocess.run(["sh", "-c", gpu_memory.SCRIPT], env=env, capture_output=True, text=True, check=True)
    assert "s3cret" not in done.stdout
    return gpu_memory.parse(done.stdout)


def test_whose_the_processes_are(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"]}
    with (
        sleeper({**env, job.API_KEY: "s3cret"}) as server,
        sleeper({**env, job.API_KEY: "another"}) as other,
    ):
        seen = asked(tmp_path, "echo 11234, 24564; echo 2, 24564", server, other)
    assert seen is not None
    assert seen == GpuMemory(
        (11234.0, 2.0),
        (24564.0, 24564.0),
        (
            Process(server, "python3 serve.py", 11000.0, Whose.SERVER),
            Process(other, "python", 2867.0, Whose.INSIDE),
            Process(99999999, "[Not Found]", 100.0, Whose.OUTSIDE),
        ),
    )
    assert seen.others() == f"process {other} (python) holds 2.8 GiB"


def test_a_driver_that_fails_is_told(tmp_path: Path) -> None:
    seen = asked(tmp_path, "echo Unable to determine the device handle; exit 15")
    assert seen is not None
    assert (seen.exit_code, seen.said, seen.used_mib) == (15, "Unable to determine the device handle", ())


def test_without_nvidia_smi_nothing_is_known() -> None:
    env = {"PATH": "/nonexistent"}
    done = subprocess.run(["/bin/sh", "-c", gpu_memory.SCRIPT], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert gpu_memory.parse(done.stdout) is None


@pytest.mark.parametrize(
    "output",
    ["", "gpu 1, 2\n", "gpu [N/A], 24564\nend 0\n", "gpu 1\nend 0\n", "gpu \nend 0\n", "gpu 1.2, x\nend 0\n"],
)
def test_what_makes_no_sense_says_nothing(output: str) -> None:
    assert gpu_memory.parse(output) is None


def memory(*used: float, other: float = 0.0) -> GpuMemory:
    processes = (Process(1, "serve", 9.0, Whose.SERVER), Process(4711, "python", other, Whose.INSIDE))
    return GpuMemory(used, tuple(24564.0 for _ in used), processes[: 2 if other else 1])


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (memory(10000), memory(11000), ""),
        (memory(10000), memory(11001), "its GPU memory has grown from 9.8 GiB to 10.7 GiB"),
        (memory(10000), memory(9000), ""),
        (memory(2), memory(60), ""),
        (memory(2), memory(400), "its GPU memory has grown from 2 MiB to 400 MiB"),
        (memory(10000, 500), memory(10000, 900), "its GPU memory of GPU 1 has grown from 500 MiB to 900 MiB"),
        (
            memory(11469),
            memory(14336, other=2867),
            "its GPU memory has grown from 11.2 GiB to 14.0 GiB, of which process 4711 (python) holds 2.8 GiB",
        ),
        (None, memory(9000), ""),
        (memory(9000), None, ""),
        (memory(9000), GpuMemory(exit_code=124), ""),
    ],
)
def test_growth_by_more_than_a_tenth(before: GpuMemory | None, now: GpuMemory | None, told: str) -> None:
    assert gpu_memory.grown(before, now) == told


def test_memory_that_is_held_names_who_holds_it() -> None:
    assert memory(1200, 1200).held() == ""
    text = memory(2, 14336, other=14000).held()
    assert text.startswith("14.0 GiB of 24.0 GiB of GPU 1 are in use: process 1 (serve) holds 9 MiB, process 4711")
    nobody = GpuMemory((14336.0,), (24564.0,))
    assert nobody.held().endswith("in use: no process that the instance can see holds it")
