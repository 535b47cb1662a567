from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.container import gpu_tools
from pytest_vastgpu.local.container import simulated_gpus
from pytest_vastgpu.local.gpu import SimulatedGpu
from tests.support.local.containers import ContainerRunner

GPUS = [
    {"name": "NVIDIA A100-SXM4-80GB", "ram_mb": 81920, "driver": "550.54.15", "cuda": "12.4", "compute_cap": "8.0"},
    {"name": "NVIDIA A100-SXM4-80GB", "ram_mb": 81920, "driver": "550.54.15", "cuda": "12.4", "compute_cap": "8.0"},
]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--query-gpu=count", "--format=csv,noheader", "-i", "0"], "2"),
        (["--query-gpu=memory.total", "--format=csv,noheader,nounits"], "81920\n81920"),
        (["--query-gpu=index,memory.free", "--format=csv,noheader", "--id=1"], "1, 81918 MiB"),
        (
            ["--query-gpu=name,memory.used", "--format=csv", "-i", "0"],
            "name, memory.used [MiB]\nNVIDIA A100-SXM4-80GB, 2 MiB",
        ),
        (["--format=csv,nounits", "-i", "1", "--query-gpu=utilization.gpu"], "utilization.gpu\n0"),
        (["--query-gpu=compute_cap,driver_version", "--format=csv,noheader", "-i", "0"], "8.0, 550.54.15"),
        (["--query-compute-apps=pid,used_memory", "--format=csv,noheader"], ""),
        (["--query-compute-apps=pid,used_memory", "--format=csv"], "pid, used_memory [MiB]"),
        (
            ["-L"],
            "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-00000000-0000-4000-8000-000000000000)\n"
            "GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-00000000-0000-4000-8000-000000000001)",
        ),
    ],
)
def test_answers(arguments: list[str], expected: str) -> None:
    assert simulated_gpus.answer(GPUS, arguments) == expected


def test_memory_is_held_by_processes_that_live_and_by_what_is_outside() -> None:
    pid = os.getpid()
    held = simulated_gpus.holders(f"1 {pid} 9000 python3 serve.py\n0 0 500 -\n0 99999999 4000 gone\n")
    used = simulated_gpus.answer(GPUS, ["--query-gpu=memory.used,memory.free", "--format=csv,noheader,nounits"], held)
    assert used == "502, 81418\n9002, 72918"
    query = ["--query-compute-apps=pid,used_memory,process_name", "--format=csv,noheader,nounits"]
    assert simulated_gpus.answer(GPUS, query, held) == f"{pid}, 9000, python3 serve.py"
    assert simulated_gpus.answer(GPUS, [*query, "-i", "0"], held) == ""


def test_a_load_shows_in_use_clocks_and_power() -> None:
    query = ["--query-gpu=utilization.gpu,clocks.sm,clocks.mem,power.draw,pstate,clocks_event_reasons.active"]
    query += ["--format=csv,noheader,nounits", "-i", "0"]
    assert simulated_gpus.answer(GPUS, query) == "0, 210, 405, 21.00, P8, 0x0000000000000001"
    assert simulated_gpus.answer(GPUS, query, load=100) == "100, 2794, 10501, 421.00, P0, 0x0000000000000000"
    hot = [{**GPUS[0], "reasons": 0x40}]
    assert simulated_gpus.answer(hot, query, load=100) == "100, 932, 10501, 421.00, P0, 0x0000000000000040"


def test_an_answer_again_and_again_until_it_is_ended(tmp_path: Path) -> None:
    (tmp_path / "gpus.json").write_text(json.dumps({"gpus": GPUS[:1], "failure": ""}))
    (tmp_path / simulated_gpus.LOAD).write_text("40")
    asked = ["--query-gpu=utilization.gpu", "--format=csv", "-lms", "1"]
    program = [sys.executable, simulated_gpus.__file__, str(tmp_path / "gpus.json"), *asked]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env={"HOME": str(tmp_path)}) as running:
        assert running.stdout is not None
        assert [running.stdout.readline() for _ in range(3)] == ["utilization.gpu [%]\n", "40 %\n", "40 %\n"]
        running.kill()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query-gpu=nonsense", "--format=csv"], 'Field "nonsense" is not a valid field to query.'),
        (["--query-gpu=name"], "format"),
        (["-i", "2", "-L"], "No devices were found"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_calls_it_cannot_answer(arguments: list[str], message: str) -> None:
    with pytest.raises(simulated_gpus.NvidiaSmiError, match=message):
        simulated_gpus.answer(GPUS, arguments)


def test_table_and_details_name_what_is_sold() -> None:
    table, details = simulated_gpus.answer(GPUS, []), simulated_gpus.answer(GPUS, ["-q"])
    assert "CUDA Version: 12.4" in table
    assert table.count("2MiB / 81920MiB") == 2
    assert len({len(line) for line in table.splitlines() if line}) == 1
    assert "Attached GPUs                             : 2" in details
    assert details.count("Total                             : 81920 MiB") == 2


@pytest.mark.parametrize(
    ("sold", "shown"),
    [
        ("RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("RTX 3060 Ti", "NVIDIA GeForce RTX 3060 Ti"),
        ("GTX 1080", "NVIDIA GeForce GTX 1080"),
        ("RTX A6000", "NVIDIA RTX A6000"),
        ("RTX 4000Ada", "NVIDIA RTX 4000Ada"),
        ("H100 SXM", "NVIDIA H100 SXM"),
        ("NVIDIA L4", "NVIDIA L4"),
    ],
)
def test_product_names(sold: str, shown: str) -> None:
    assert gpu_tools.product_name(sold) == shown


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client tools are not installed")
def test_in_sessions_and_in_the_start_script(tmp_path: Path) -> None:
    gpu = SimulatedGpu("RTX 4090", 24564, "570.86.15", 12.8, 8.9)
    query = "nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader,nounits"
    line = b"NVIDIA GeForce RTX 4090, 24564, 570.86.15, 8.9\n"
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(gpus=(gpu, gpu), onstart=f"{query} > ~/seen.new; mv ~/seen.new ~/seen")
        assert runner.ssh(container, query).stdout == line * 2
        assert runner.ssh(container, f"bash -lc '{query}'").stdout == line * 2
        assert runner.ssh(container, "until [ -e seen ]; do sleep 0.02; done; cat seen").stdout == line * 2
        refused = runner.ssh(container, "nvidia-smi --query-gpu=nonsense --format=csv")
        assert refused.returncode == 2
        assert b"nonsense" in refused.stdout


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client tools are not installed")
def test_own_devices_are_shown_as_they_are(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(gpus=())
        found: dict[str, Any] = {"here": shutil.which("nvidia-smi") or ""}
        assert runner.ssh(container, "command -v nvidia-smi").stdout.decode().strip() == found["here"]
