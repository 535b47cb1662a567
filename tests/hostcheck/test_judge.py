from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.diagnosis.stages import progress_of
from pytest_vastgpu.hostcheck import judge
from pytest_vastgpu.hostcheck.facts import Gpu
from pytest_vastgpu.hostcheck.facts import Holder
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Workload
from pytest_vastgpu.supervisor.rental.deadman import parse_heartbeat_reply
from tests.support.factories import make_offer

OFFER = make_offer(num_gpus=2, disk_space_gb=200, cpu_cores=16, cpu_ram_mb=256_000, machine_share=0.25)
WORKLOAD = Workload("vllm", gpus=2, cuda=12.8, disk_gb=60)
CARD = Gpu("NVIDIA GeForce RTX 4090", 24564, 2, "570.86.15", 8.9, bus_id="00000000:01:00.0")
FINE = HostFacts(
    complete=True,
    gpus=(CARD, CARD),
    smi_present=True,
    smi_exit_code=0,
    device_nodes=2,
    cuda=12.8,
    libcuda=True,
    disk_free_gb=59.0,
    shm_mb=8000,
    cpu_cores=16,
    memory_mb=64_000,
    way_out="open",
    uptime_s=200_000.0,
)
HOLDER = Holder(4711, "/usr/bin/xmrig", 9000)


def xid(number: str, at_s: float = 199_000.0, place: str = "0000:01:00") -> dict[str, object]:
    """A host whose kernel wrote one line about a GPU."""
    return {"kernel_lines": (f"[{at_s:.6f}] NVRM: Xid (PCI:{place}): {number}",)}


def test_a_host_as_sold() -> None:
    assert judge.judge(OFFER, WORKLOAD, FINE) is None


def test_what_a_host_did_not_say_is_not_held_against_it() -> None:
    assert judge.judge(OFFER, WORKLOAD, HostFacts()) is None


@pytest.mark.parametrize(
    ("changes", "failure", "reason", "words"),
    [
        ({"gpus": (CARD,)}, FailureClass.INFRA_FATAL, "fewer_gpus_than_sold", "2 x RTX 4090 sold, 1 found"),
        ({"gpus": ()}, FailureClass.INFRA_FATAL, "no_gpu_in_container", "0 found"),
        (
            {"gpus": (), "smi_present": False, "smi_exit_code": None, "device_nodes": 0},
            FailureClass.INFRA_FATAL,
            "no_gpu_in_container",
            "0 found",
        ),
        (
            {"gpus": (CARD, dataclasses.replace(CARD, name="NVIDIA GeForce RTX 3090"))},
            FailureClass.INFRA_FATAL,
            "gpu_other_than_sold",
            "RTX 4090 sold, NVIDIA GeForce RTX 3090 found",
        ),
        (
            {"gpus": (CARD, dataclasses.replace(CARD, total_mb=12000))},
            FailureClass.INFRA_FATAL,
            "vram_less_than_sold",
            "12000 MB",
        ),
        (
            {"gpus": (CARD, dataclasses.replace(CARD, used_mb=9100)), "holders": (HOLDER,)},
            FailureClass.INFRA_FATAL,
            "vram_held_by_stranger",
            "/usr/bin/xmrig (pid 4711, 9000 MB)",
        ),
        (
            {"gpus": (CARD, dataclasses.replace(CARD, used_mb=9100))},
            FailureClass.INFRA_FATAL,
            "vram_held_by_stranger",
            "a process outside this container",
        ),
        ({"cuda": 12.4}, FailureClass.INCOMPATIBLE, "driver_too_old_for_image", "CUDA 12.4, the image needs 12.8"),
        ({"libcuda": False}, FailureClass.INFRA_FATAL, "libcuda_missing", "libcuda.so"),
        ({"shm_mb": 64.0}, FailureClass.INCOMPATIBLE, "shm_too_small", "64 MB"),
        ({"disk_free_gb": 40.0}, FailureClass.INFRA_FATAL, "disk_less_than_rented", "60 GB rented, 40.0 GB free"),
        ({"smi_exit_code": 124}, FailureClass.INFRA_FATAL, "nvidia_smi_hangs", "no answer"),
        (
            {"smi_exit_code": 18, "smi_text": "Failed to initialize NVML: Driver/library version mismatch"},
            FailureClass.INFRA_FATAL,
            "nvml_driver_library_mismatch",
            "mismatch",
        ),
        ({"smi_exit_code": 3, "smi_text": "odd"}, FailureClass.INFRA_FATAL, "nvidia_smi_failed", "exit code 3: odd"),
        (
            {"gpus": (CARD, dataclasses.replace(CARD, ecc_errors=3))},
            FailureClass.INFRA_FATAL,
            "uncorrectable_ecc",
            "counts 3 uncorrected",
        ),
        (xid("48, pid=17, An uncorrectable double bit error"), FailureClass.INFRA_FATAL, "uncorrectable_ecc", ": 48,"),
        (xid("64, pid=17, Row Remapper: failed"), FailureClass.INFRA_FATAL, "uncorrectable_ecc", ": 64,"),
        (xid("74, pid=17, NVLink: fatal error"), FailureClass.INFRA_FATAL, "nvlink_error", ": 74,"),
        (xid("79, pid=17, GPU has fallen off the bus."), FailureClass.INFRA_FATAL, "gpu_fallen_off_bus", ": 79,"),
        (xid("94, pid=17, Contained memory error"), FailureClass.INFRA_FATAL, "uncorrectable_ecc", ": 94,"),
        (xid("95, pid=17, Uncontained memory error"), FailureClass.INFRA_FATAL, "uncorrectable_ecc", ": 95,"),
        (xid("119, Timeout after 6s of waiting for RPC"), FailureClass.INFRA_FATAL, "gpu_requires_reset", ": 119,"),
        (
            {"kernel_lines": ("NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",)},
            FailureClass.INFRA_FATAL,
            "gpu_fallen_off_bus",
            ": 79,",
        ),
        ({"cpu_cores": 4.0}, FailureClass.INFRA_FATAL, "cpu_less_than_sold", "16 cores sold, 4 may be used"),
        ({"memory_mb": 16_000}, FailureClass.INFRA_FATAL, "ram_less_than_sold", "64000 MB of RAM sold, 16000 MB"),
    ],
)
def test_a_host_that_is_not(changes: dict[str, object], failure: FailureClass, reason: str, words: str) -> None:
    facts = dataclasses.replace(FINE, **changes)  # type: ignore[arg-type] # a table of changes
    verdict = judge.judge(OFFER, WORKLOAD, facts)
    assert verdict is not None
    assert (verdict.failure_class, verdict.reason) == (failure, reason)
    assert words in verdict.evidence
    assert verdict.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": (CARD, dataclasses.replace(CARD, used_mb=900))},
        {"gpus": (), "smi_present": False, "smi_exit_code": None},
        {"libcuda": None},
        {"cuda": 0.0},
        {"cuda": 13.0},
        {"disk_free_gb": 49.0},
        {"shm_mb": None},
        {"way_out": "no_name"},
        # What programs cause, and what was dealt with.
        xid("13, pid=17, Graphics SM Warp Exception"),
        xid("31, pid=17, MMU Fault"),
        xid("43, pid=17, Ch 00000008"),
        xid("45, pid=17, Ch 00000010"),
        xid("63, pid=17, Row Remapper: New row marked for remapping"),
        xid("154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"),
        # What is somebody else's, and what the card has outlived.
        xid("79, pid=17, GPU has fallen off the bus.", place="0000:c1:00"),
        xid("79, pid=17, GPU has fallen off the bus.", at_s=100_000),
        xid("79, pid=17, GPU has fallen off the bus.") | {"gpus": (dataclasses.replace(CARD, bus_id=""),) * 2},
        {"cpu_cores": 12.8},
        {"cpu_cores": 128.0, "memory_mb": 512_000},
        {"cpu_cores": None, "memory_mb": None},
        {"memory_mb": 58_000},
    ],
)
def test_small_things_are_let_pass(changes: dict[str, object]) -> None:
    facts = dataclasses.replace(FINE, **changes)  # type: ignore[arg-type] # a table of changes
    assert judge.judge(OFFER, WORKLOAD, facts) is None


@pytest.mark.parametrize("changes", [{"simulated": True}, {"machine_share": 0.0, "cpu_cores": 0.0}])
def test_cores_and_memory_that_nobody_sold(changes: dict[str, object]) -> None:
    offer = dataclasses.replace(OFFER, **changes)  # type: ignore[arg-type] # a table of changes
    assert judge.judge(offer, WORKLOAD, dataclasses.replace(FINE, cpu_cores=2.0, memory_mb=8_000)) is None


def test_who_needs_no_gpu_is_asked_about_none() -> None:
    workload = dataclasses.replace(WORKLOAD, gpus=0)
    ill = dataclasses.replace(CARD, ecc_errors=3)
    facts = HostFacts(complete=True, gpus=(ill,), libcuda=False, disk_free_gb=70, shm_mb=64)
    assert judge.judge(OFFER, workload, facts) is None
    small = judge.judge(OFFER, workload, dataclasses.replace(facts, disk_free_gb=1))
    assert small is not None
    assert small.reason == "disk_less_than_rented"


@pytest.mark.parametrize(("way", "blamed"), [("no_name", True), ("refused", True), ("slow", False), ("", False)])
def test_a_way_out_is_needed_by_who_downloads(way: str, blamed: bool) -> None:
    workload = dataclasses.replace(WORKLOAD, model_gb=16.0)
    verdict = judge.judge(OFFER, workload, dataclasses.replace(FINE, way_out=way))
    assert (verdict is not None) == blamed


@pytest.mark.parametrize(
    ("sold", "found", "same"),
    [
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("A100 SXM4", "NVIDIA A100-SXM4-80GB", True),
        ("H100 SXM", "NVIDIA H100 80GB HBM3", True),
        ("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation", True),
        ("Tesla V100", "Tesla V100-SXM2-16GB", True),
        ("RTX A6000", "NVIDIA RTX A6000", True),
        ("Q RTX 8000", "Quadro RTX 8000", True),
        ("RTX 4070S Ti", "NVIDIA GeForce RTX 4070 Ti SUPER", True),
        ("L40S", "NVIDIA L40S", True),
        ("GH200 SXM", "NVIDIA GH200 480GB", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4080", False),
        ("H100 SXM", "NVIDIA A100-SXM4-80GB", False),
        ("simulated", "whatever", True),
    ],
)
def test_kinds_are_spelt_in_many_ways(sold: str, found: str, same: bool) -> None:
    card = dataclasses.replace(CARD, name=found)
    verdict = judge.judge(
        dataclasses.replace(OFFER, gpu_name=sold), WORKLOAD, dataclasses.replace(FINE, gpus=(card, card))
    )
    assert (verdict is None) == same


def ask(folder: Path | None = None, script: str = judge.SCRIPT) -> HostFacts:
    path = f"{folder}:{os.environ['PATH']}" if folder else os.environ["PATH"]
    env = {**os.environ, "PATH": path}
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run([shell, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return judge.parse(done.stdout)


def tool(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_this_machine_answers() -> None:
    facts = ask()
    assert facts.complete
    assert facts.disk_free_gb is not None
    assert facts.disk_free_gb == pytest.approx(shutil.disk_usage(Path.cwd()).free / 1e9, rel=0.2, abs=5)
    assert facts.cpu_cores is not None
    assert 0 < facts.cpu_cores <= (os.cpu_count() or 1)
    assert facts.shm_mb is None or facts.shm_mb > 0
    if Path("/proc/meminfo").exists():
        assert facts.memory_mb
        assert facts.uptime_s


def test_cores_are_counted_whatever_programs_are_told_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "512")
    cores = ask().cpu_cores
    assert cores is not None
    assert cores <= (os.cpu_count() or 1)


SMI = """\
case "$*" in
  *query-gpu=name*) echo "NVIDIA GeForce RTX 4090, 24564, 9120, 570.86.15" ;;
  *query-gpu=compute_cap*) echo "8.9, [N/A], 00000000:01:00.0" ;;
  *query-compute-apps*) echo "4711, /usr/bin/xmrig, 9000" ;;
  *) echo "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8     |" ;;
esac"""


def test_a_machine_with_a_gpu_answers(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    tool(folder, "nvidia-smi", SMI)
    tool(folder, "ldconfig", 'echo "\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1"')
    facts = ask(folder)
    assert facts.gpus == (Gpu("NVIDIA GeForce RTX 4090", 24564, 9120, "570.86.15", 8.9, bus_id="00000000:01:00.0"),)
    assert facts.holders == (HOLDER,)
    assert (facts.cuda, facts.libcuda, facts.smi_exit_code) == (12.8, True, 0)


def test_a_machine_whose_gpu_went_wrong_answers(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    tool(folder, "nvidia-smi", SMI.replace("[N/A]", "2"))
    tool(folder, "dmesg", "echo '[    1.5] NVRM: Xid (PCI:0000:01:00): 48, pid=7'; echo '[    2.5] usb 1-1: new'")
    facts = ask(folder)
    assert [gpu.ecc_errors for gpu in facts.gpus] == [2]
    assert facts.kernel_lines == ("[    1.5] NVRM: Xid (PCI:0000:01:00): 48, pid=7",)


def test_an_old_driver_that_cannot_say_everything(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    tool(
        folder,
        "nvidia-smi",
        SMI.replace('echo "8.9, [N/A], 00000000:01:00.0"', "echo 'Field \"compute_cap\" is not valid'; exit 2"),
    )
    facts = ask(folder)
    assert facts.gpus == (Gpu("NVIDIA GeForce RTX 4090", 24564, 9120, "570.86.15"),)


def test_a_driver_that_fails(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    tool(folder, "nvidia-smi", "echo 'No devices were found'; exit 6")
    facts = ask(folder)
    assert (facts.smi_exit_code, facts.smi_text, facts.gpus) == (6, "No devices were found", ())
    verdict = judge.judge(OFFER, WORKLOAD, facts)
    assert verdict is not None
    assert verdict.reason == "no_devices"


def test_a_driver_that_hangs(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    tool(folder, "nvidia-smi", "exec sleep 30")
    limit = f"limited {judge.SMI_LIMIT_S} nvidia-smi"
    assert limit in judge.SCRIPT
    facts = ask(folder, judge.SCRIPT.replace(limit, "limited 0.2 nvidia-smi"))
    verdict = judge.judge(OFFER, WORKLOAD, facts)
    assert verdict is not None
    assert verdict.reason == "nvidia_smi_hangs"


@pytest.mark.parametrize(
    ("limits", "cores", "memory_mb"),
    [
        ("cpu.max 150000 100000\nmemory.max 8589934592", 1.5, 8589.934592),
        ("cpu.max 6400000 100000\nmemory.max 858993459200", 2.0, 10240.0),
        ("cpu.max max 100000\nmemory.max max", 2.0, 10240.0),
        ("cpu/cpu.cfs_quota_us 150000\ncpu/cpu.cfs_period_us 100000", 1.5, 10240.0),
        ("cpu/cpu.cfs_quota_us -1\nmemory/memory.limit_in_bytes 9223372036854771712", 2.0, 10240.0),
        ("memory/memory.limit_in_bytes 8589934592", 2.0, 8589.934592),
        ("", 2.0, 10240.0),
    ],
)
def test_limits_of_both_versions_of_cgroups(limits: str, cores: float, memory_mb: float) -> None:
    memory = "MemTotal:       10000000 kB"
    facts = judge.parse(f"2\n\n@@ cores 0\n{limits}\n@@ limits 0\n{memory}\n@@ memory 0\n@@ end 0\n")
    assert (facts.cpu_cores, facts.memory_mb) == (cores, memory_mb)


@pytest.mark.parametrize("output", ["", "garbage", "@@ gpus 0\n", "x, y\n@@ gpus 0\n@@ disk 0\n", "\0\n@@ shm 0"])
def test_garbled_answers(output: str) -> None:
    facts = judge.parse(output)
    assert facts.gpus == ()
    assert judge.judge(OFFER, WORKLOAD, facts) is None


def test_a_line_that_a_command_prints_is_no_end_of_a_section() -> None:
    assert judge.parse("4\n cores 0\n end 0\n") == HostFacts()


NUMBERS = ("9" * 5000, "1e999", "nan", "-inf", "0", "-1", "9" * 25)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_no_host_has_are_no_reason_to_break(number: str) -> None:
    said = f"""
RTX 4090, {number}, {number}, 570.86.15
@@ gpus 0
8.9, {number}, 00000000:01:00.0
@@ kinds 0
{number}, /usr/bin/xmrig, {number}
@@ holders 0
fs {number} {number} {number} 5% /
@@ disk 0
@@ shm {number}
{number}
@@ cores 0
MemTotal: {number} kB
@@ memory 0
{number} 1.0
@@ uptime 0
@@ end 0
"""
    judge.judge(OFFER, WORKLOAD, judge.parse(said))
    assert parse_heartbeat_reply(f"{number} {number} {number} alive curl {number}") is None or number in {"0", "-1"}
    progress_of(f"Download: [{number}/{number}]")
