"""The offer of the machine that the market runs on. The tests put an ``nvidia-smi`` into the ``PATH`` of the market."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu import command
from pytest_vastgpu.hostcheck import judge
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.fleet.machine import this_machine
from pytest_vastgpu.local.market.offer_rows import machine_row
from pytest_vastgpu.providers.vast import schema
from tests.support.local.api import Api

RECORDED = """\
Wed Jan 24 15:18:40 2024
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.40.07              Driver Version: 550.40.07      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA GeForce RTX 4070        Off |   00000000:2D:00.0  On |                  N/A |
|  0%   36C    P5             17W /  200W |     430MiB /  12282MiB |      1%      Default |
|                                         |                        |                  N/A |
+-----------------------------------------+------------------------+----------------------+
"""
"""Source: a public report of that driver."""
RECORDED_610 = """\
Sun Jun  7 08:16:57 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 610.43.02              KMD Version: 610.43.02     CUDA UMD Version: 13.3     |
+-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA B200                    On  |   00000000:63:00.0 Off |                    0 |
| N/A   26C    P0            139W / 1000W |       0MiB / 183359MiB |      0%      Default |
|                                         |                        |             Disabled |
+-----------------------------------------+------------------------+----------------------+
|   1  NVIDIA B200                    On  |   00000000:68:00.0 Off |                    0 |
| N/A   30C    P0            142W / 1000W |       0MiB / 183359MiB |      0%      Default |
|                                         |                        |             Disabled |
+-----------------------------------------+------------------------+----------------------+
"""
NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."


@dataclass(frozen=True)
class Tool:
    """The output of an ``nvidia-smi``."""

    table: str
    rows: str
    """The output for ``--query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader,nounits``."""
    status: int = 0

    def install(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "table").write_text(self.table)
        (folder / "rows").write_text(self.rows)
        program = folder / "nvidia-smi"
        script = f'case "$*" in *--query-gpu=*) cat {folder}/rows ;; *) cat {folder}/table ;; esac; exit {self.status}'
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (
            Tool(RECORDED, "NVIDIA GeForce RTX 4070, 12282, 550.40.07, 8.9\n"),
            {"gpu_name": "RTX 4070", "num_gpus": 1, "gpu_ram": 12282, "cuda_max_good": 12.4, "driver_vers": 550040007},
        ),
        (
            Tool(RECORDED_610, "NVIDIA B200, 183359, 610.43.02, 10.0\n" * 2),
            {"gpu_name": "B200", "num_gpus": 2, "gpu_total_ram": 366718, "cuda_max_good": 13.3, "compute_cap": 1000},
        ),
        (
            Tool(RECORDED_610, "NVIDIA GB10, [N/A], 610.43.02, 12.1\n"),
            {"gpu_name": "GB10", "num_gpus": 1, "gpu_ram": 0, "compute_cap": 1210},
        ),
        (Tool(NO_DRIVER, NO_DRIVER, status=9), {"gpu_name": "", "num_gpus": 0, "cuda_max_good": 0.0}),
    ],
    ids=["one", "two_with_a_newer_driver", "shared_memory", "no_driver"],
)
def test_its_gpus_are_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool, expected: dict[str, object]
) -> None:
    tool.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]))
    row = machine_row(this_machine(tmp_path))
    assert {name: row[name] for name in expected} == expected
    assert (row["machine_id"], row["simulated"], row["verified"]) == (1, False, True)


def test_a_market_offers_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tool(RECORDED_610, "NVIDIA B200, 183359, 610.43.02, 10.0\n" * 2).install(tmp_path / "bin")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]))
    with LocalMarket(rate_limits=False) as market, Api(market) as api:
        query = {"gpu_name": {"eq": "B200"}, "num_gpus": {"eq": "2"}, "cuda_max_good": {"gte": "13.0"}}
        [offer] = api.offers(**query, driver_version={"gte": 610000000})
        assert (offer["machine_id"], offer["simulated"]) == (1, False)
        # An instance sees the real devices, with the machine's own tool.
        instance_id = api.rent(1, onstart=f"{tmp_path}/bin/nvidia-smi")
        assert "CUDA UMD Version: 13.3" in api.log(instance_id, bool, tail="50")


def test_cores_memory_and_disk_are_its_own() -> None:
    with LocalMarket(rate_limits=False) as market, Api(market) as api:
        [offer] = api.offers()
    own_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    assert offer["cpu_cores_effective"] == pytest.approx(len(os.sched_getaffinity(0)), rel=0.1)
    assert offer["cpu_ram"] * offer["gpu_frac"] == pytest.approx(own_mb, rel=0.01)
    assert offer["cpu_arch"] == {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert offer["disk_space"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("this_machine", [True, False])
def test_other_clients_do_not_pass_it_over_for_its_size(this_machine: bool) -> None:
    fleet = {"market": {"rate_limits": False}, "this_machine": this_machine, "machines": [] if this_machine else [{}]}
    with LocalMarket(fleet) as market, Api(market) as api:
        [offer] = api.offers()
    # Each client reads its own fields: cores and RAM of the whole machine, CUDA and download of the offer.
    assert offer["cpu_cores"] >= 32
    assert offer["cpu_ram"] / 1024 >= 64
    assert offer["inet_down"] >= 1000
    assert offer["cuda_max_good"] >= 13 or not offer["num_gpus"]


@pytest.mark.slow
def test_what_is_said_of_a_small_machine_passes_our_own_host_check() -> None:
    with LocalMarket(rate_limits=False) as market, Api(market) as api:
        (offer,) = schema.offers({"offers": api.offers()})
    done = subprocess.run(["sh", "-c", judge.SCRIPT], capture_output=True, text=True, check=True)
    facts = judge.parse(done.stdout)
    assert facts.cpu_cores is not None
    assert judge.judge(offer, command("serve", gpus=0, disk_gb=1), facts) is None
    half = replace(facts, cpu_cores=facts.cpu_cores * 0.4)
    found = judge.judge(offer, command("serve", gpus=0, disk_gb=1), half)
    assert found is not None
    assert found.reason == "cpu_less_than_sold"
